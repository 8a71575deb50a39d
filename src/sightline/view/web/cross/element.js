import { View } from "../view.js";

class SightlineCross extends View {
  build() {
    this.setTitle("Cross");
  }
}

customElements.define("sightline-cross", SightlineCross);
