import { element } from "../common/dom.js";
import { paintCells } from "../map/paint.js";
import { nameOfNumber, showHeadNumber } from "./names.js";

/** One head of the atlas, or the mean or maximum over a layer's heads: a button with a picture and a number. */
export class HeadCell {
  /**
   * @param {number} layer its place in the section
   * @param {string} head
   * @param {boolean} named whether its name is written, or stands at its row and column
   */
  constructor(layer, head, named) {
    this.layer = layer;
    this.head = head;
    this.single = !/^m/.test(head);
    this.painted = "";
    this.name = this.single ? `layer ${layer} head ${head}` : `layer ${layer}, ${head} over heads`;
    this.picture = element("span", { class: "atlas-picture", "aria-hidden": "true" });
    this.number = element("span", { class: "atlas-number" });
    this.label = element("span", { class: "atlas-label" });
    const title = element("span", { class: "atlas-name" }, this.single ? `${layer}.${head}` : head);
    const parts = this.single ? [...(named ? [title] : []), this.picture, this.number, this.label] : [title];
    const kind = this.single ? "atlas-head" : "atlas-over";
    this.button = element("button", { type: "button", class: kind, "aria-pressed": "false", "aria-label": this.name, title: this.name, tabindex: -1 }, ...parts);
  }

  /**
   * @param {import("../source/types.js").Numbers} numbers
   * @param {string} name of the number shown
   */
  tell(numbers, name) {
    if (!this.single) return;
    const at = Number(this.head);
    const value = showHeadNumber(name, numbers.heads[name]?.[at]);
    const label = numbers.labels?.[at] ?? "";
    this.number.textContent = value;
    this.label.textContent = label.replace(/ token$/, ""); // in full in the title and the table
    const text = [this.name, ...(label ? [label] : []), `${nameOfNumber(name)} ${value}`].join(", ");
    this.button.setAttribute("aria-label", text);
    this.button.title = text;
  }

  /**
   * @param {import("../source/types.js").Thumbnails} thumbnails
   * @param {{rgb: Uint8ClampedArray, shade: (value: number) => number, name: string}} look
   */
  paint({ values, height, width }, look) {
    if (!this.single || this.painted === look.name) return;
    this.painted = look.name;
    const from = Number(this.head) * height * width;
    this.picture.replaceChildren(paintCells(values.subarray(from, from + height * width), width, height, look.rgb, look.shade));
  }

  /** @param {boolean} chosen @param {boolean} compared */
  mark(chosen, compared) {
    this.button.setAttribute("aria-pressed", String(chosen));
    this.button.classList.toggle("compared", compared);
    if (compared) this.button.setAttribute("aria-description", "compared");
    else this.button.removeAttribute("aria-description");
  }
}
