import { element } from "../common/dom.js";

/** The colours and what they stand for. */
export class MapLegend {
  constructor() {
    this.bar = element("canvas", { width: 256, height: 1, class: "legend-bar", "aria-hidden": "true" });
    this.low = element("span", { id: "legend-low" });
    this.high = element("span", { id: "legend-high" });
    this.what = element("span");
    this.box = element("div", { class: "legend" }, this.low, this.bar, this.high, this.what, element("span", {}, "clear: may not look"));
  }

  /** @param {{explorer: import("../explorer.js").Explorer, subtracts: boolean}} shown */
  draw({ explorer, subtracts }) {
    const { ends } = explorer.scale;
    this.low.textContent = subtracts ? `−${ends[1]}` : ends[0];
    this.high.textContent = subtracts ? `+${ends[1]}` : ends[1];
    const of = subtracts ? "difference of weights" : "weight";
    this.what.textContent = `${of}, ${explorer.state.reduce} of each cell${subtracts && explorer.state.reduce === "max" ? " (of the maxima)" : ""}`;
    const colours = subtracts ? explorer.differenceColours : explorer.colours;
    const context = this.bar.getContext("2d");
    for (let at = 0; at < 256; at++) {
      context.fillStyle = colours.css(at / 255);
      context.fillRect(at, 0, 1, 1);
    }
  }
}
