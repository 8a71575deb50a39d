import { View } from "../view.js";

class SightlineText extends View {
  build() {
    this.setTitle("Text");
  }
}

customElements.define("sightline-text", SightlineText);
