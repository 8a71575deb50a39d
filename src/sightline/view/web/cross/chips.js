import { button, element } from "../common/dom.js";
import { showToken } from "../common/format.js";
import { mergedWeight } from "../text/merge.js";
import { unitText } from "../text/unit.js";

/** Tokens as a line of buttons. */
export class ChipRow {
  /**
   * @param {string} title
   * @param {{onHover: (at: number | null) => void, onPin: (at: number) => void}} host
   */
  constructor(title, host) {
    this.host = host;
    this.node = element("div", { class: "chips", role: "group", "aria-label": title });
    /** @type {import("../text/merge.js").TokenRange[]} */
    this.units = [];
    /** @type {HTMLButtonElement[]} */
    this.chips = [];
    this.shown = "";
  }

  /**
   * @param {import("../source/tokens.js").TokenCache} tokens
   * @param {import("../text/merge.js").TokenRange[]} units
   */
  show(tokens, units) {
    const texts = units.map((unit) => unitText(tokens, unit).trim() || "␣");
    const shown = JSON.stringify([units, texts]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.units = units;
    this.chips = units.map((unit, place) => {
      const chip = button(texts[place], () => this.host.onPin(unit.from), { class: "chip", title: showToken(tokens.side.places ? "" : texts[place], unit.from) });
      chip.classList.toggle("special", tokens.special(unit.from));
      chip.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && this.host.onHover(unit.from));
      chip.addEventListener("pointerleave", () => this.host.onHover(null));
      chip.addEventListener("focus", () => chip.matches(":focus-visible") && this.host.onHover(unit.from));
      chip.addEventListener("blur", () => this.host.onHover(null));
      return chip;
    });
    this.node.replaceChildren(...this.chips);
  }

  /**
   * @param {{values: Float32Array | null, how: import("../text/merge.js").Merging, scale: (weight: number) => number, colours: import("../common/colour.js").ColourMap}} look
   */
  paint({ values, how, scale, colours }) {
    this.units.forEach(({ from, to }, place) => {
      const value = values ? mergedWeight(values, from, to, how) : NaN;
      const t = Number.isNaN(value) ? 0 : Math.min(1, scale(value));
      const { style } = this.chips[place];
      [style.backgroundColor, style.color] = t >= 0.02 ? [colours.css(t), colours.ink(t)] : ["", ""];
    });
  }

  /** Mark the chips of tokens. @param {Object<string, number | null>} marks a token for each class */
  mark(marks) {
    this.units.forEach(({ from, to }, place) => {
      const chip = this.chips[place];
      for (const [name, at] of Object.entries(marks)) chip.classList.toggle(name, at !== null && from <= at && at < to);
      chip.setAttribute("aria-pressed", String(marks.pinned !== null && from <= marks.pinned && marks.pinned < to));
    });
  }
}
