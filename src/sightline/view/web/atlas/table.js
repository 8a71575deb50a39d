import { element } from "../common/dom.js";
import { HEAD_NUMBERS, nameOfNumber, showHeadNumber } from "./names.js";
import { sortHeads } from "./sort.js";

/** All heads and all their numbers as a table; a click on a column's name sorts by it. */
export class HeadTable {
  /** @param {(layer: number, head: string) => void} onChoose */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.by = "layer";
    this.descending = false;
    /** @type {import("./sort.js").HeadRow[]} */
    this.rows = [];
    this.box = element("div", { class: "atlas-table scroll", tabindex: 0, role: "region", "aria-label": "numbers of all heads" });
  }

  /** @param {import("./sort.js").HeadRow[]} rows @param {{layer: number, head: string}} chosen */
  show(rows, chosen) {
    this.rows = rows;
    this.chosen = chosen;
    this.draw();
  }

  draw() {
    const names = Object.keys(HEAD_NUMBERS).filter((name) => this.rows.some((row) => name in row.numbers));
    const columns = [["layer", "head"], ["label", "label"], ...names.map((name) => [name, nameOfNumber(name)])];
    const head = element("tr", {}, ...columns.map(([by, name]) => this.title(by, name)));
    const body = sortHeads(this.rows, this.by, this.descending).map((row) => this.line(row, names));
    const caption = element("caption", { class: "visually-hidden" }, "Numbers of every head; the names of the columns sort them");
    const table = element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...body));
    const focused = this.box.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    this.box.replaceChildren(table);
    if (focused) this.box.querySelector(`[aria-label="${focused}"]`)?.focus();
  }

  /** @param {string} by @param {string} name */
  title(by, name) {
    const order = by !== this.by ? "none" : this.descending ? "descending" : "ascending";
    const mark = { none: "", descending: " ↓", ascending: " ↑" }[order];
    const sorter = element("button", { type: "button", "data-by": by, title: HEAD_NUMBERS[by]?.what ?? name }, name + mark);
    sorter.addEventListener("click", () => this.sortBy(by));
    return element("th", { scope: "col", "aria-sort": order, class: by in HEAD_NUMBERS ? "number" : "" }, sorter);
  }

  /** Numbers start from the largest, names from the first. @param {string} by */
  sortBy(by) {
    this.descending = by === this.by ? !this.descending : by in HEAD_NUMBERS;
    this.by = by;
    this.draw();
    this.box.querySelector(`[data-by="${by}"]`).focus();
  }

  /** @param {import("./sort.js").HeadRow} row @param {string[]} names */
  line({ layer, head, label, numbers }, names) {
    const isChosen = this.chosen.layer === layer && this.chosen.head === String(head);
    const choose = element("button", { type: "button", "aria-pressed": String(isChosen), "aria-label": `layer ${layer} head ${head}` }, `${layer}.${head}`);
    choose.addEventListener("click", () => this.onChoose(layer, String(head)));
    const cells = names.map((name) => element("td", { class: "number" }, showHeadNumber(name, numbers[name])));
    return element("tr", {}, element("th", { scope: "row" }, choose), element("td", {}, label ?? ""), ...cells);
  }
}
