import { View } from "../view.js";

class SightlineSteps extends View {
  build() {
    this.setTitle("Steps");
  }
}

customElements.define("sightline-steps", SightlineSteps);
