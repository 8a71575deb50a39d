import { View } from "../view.js";

class SightlineAtlas extends View {
  build() {
    this.setTitle("Atlas");
  }
}

customElements.define("sightline-atlas", SightlineAtlas);
