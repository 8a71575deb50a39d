import { element } from "../common/dom.js";
import { onLongPress } from "../common/touch.js";
import { HeadCell } from "./cell.js";
import { rove } from "./rove.js";

const GAP = 4; // pixels between a cell and the edge of the box

/**
 * Cells of heads, in rows of layers or in one list. One of them is a Tab stop; arrows move between them.
 */
export class HeadGrid {
  /**
   * @param {{onChoose: (cell: HeadCell) => void, onCompare: (cell: HeadCell) => void, onLayer: (layer: number) => void, onSight: () => void}} host
   */
  constructor(host) {
    this.host = host;
    this.box = element("div", { class: "atlas-grid", "data-own-arrows": true, role: "group", "aria-label": "heads; arrows move, Enter chooses, Shift and Enter compares" });
    /** @type {HeadCell[]} */
    this.cells = [];
    /** @type {Map<Element, HeadCell>} */
    this.ofButton = new Map();
    /** @type {Map<Element, number>} layers in sight, by their element */
    this.sight = new Map();
    this.observer = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "100% 0px" });
    this.box.addEventListener("click", (event) => this.clicked(event));
    this.box.addEventListener("keydown", (event) => this.pressed(event));
    onLongPress(this.box, ({ target }) => {
      const cell = this.ofButton.get(/** @type {Element} */ (target).closest("button"));
      if (cell) this.host.onCompare(cell);
    });
  }

  /** A row for each layer. @param {import("../source/types.js").LayerInfo[]} layers */
  showLayers(layers) {
    this.empty();
    this.box.classList.remove("atlas-list");
    const rows = layers.map(({ heads, name }, layer) => {
      const cells = [...Array.from({ length: heads }, (_, head) => String(head)), "mean", "max"].map((head) => this.add(layer, head, false));
      const label = element("span", { class: "atlas-layer", title: name }, String(layer));
      const over = element("span", { class: "atlas-overs" }, ...cells.slice(heads).map((cell) => cell.button));
      const row = element("div", { class: "atlas-row", role: "group", "aria-label": `layer ${layer}` }, label, ...cells.slice(0, heads).map((cell) => cell.button), over);
      row.style.setProperty("--heads", String(heads));
      this.watch(row, layer);
      return row;
    });
    this.box.replaceChildren(...rows);
  }

  /** All heads, in this order. @param {{layer: number, head: number}[]} order */
  showList(order) {
    this.empty();
    this.box.classList.add("atlas-list");
    const cells = order.map(({ layer, head }) => this.add(layer, String(head), true));
    for (const { button, layer } of cells) this.watch(button, layer);
    this.box.replaceChildren(...cells.map((cell) => cell.button));
  }

  empty() {
    this.observer.disconnect();
    this.sight.clear();
    this.ofButton.clear();
    this.cells = [];
    /** @type {Map<Element, number>} */
    this.watched = new Map();
  }

  /** @param {number} layer @param {string} head @param {boolean} named */
  add(layer, head, named) {
    const cell = new HeadCell(layer, head, named);
    this.cells.push(cell);
    this.ofButton.set(cell.button, cell);
    return cell;
  }

  /** @param {Element} what @param {number} layer */
  watch(what, layer) {
    this.watched.set(what, layer);
    this.observer.observe(what);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  seen(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && this.watched.has(target)) this.sight.set(target, this.watched.get(target));
      else this.sight.delete(target);
    }
    this.host.onSight();
  }

  /** The layers in sight, from the top. @returns {number[]} */
  get inSight() {
    return [...new Set(this.sight.values())].sort((a, b) => a - b);
  }

  /**
   * Mark the chosen head and the one it is compared with; the chosen one, else the first, is the Tab stop.
   * @param {(cell: HeadCell) => boolean} isChosen
   * @param {(cell: HeadCell) => boolean} isCompared
   */
  mark(isChosen, isCompared) {
    for (const cell of this.cells) cell.mark(isChosen(cell), isCompared(cell));
    const focused = this.ofButton.get(document.activeElement);
    this.stopAt(focused ?? this.cells.find(isChosen) ?? this.cells[0]);
  }

  /**
   * Scroll the box that the grid is in, and not the page, until a head is in sight; nothing moves if it is.
   * @param {(cell: HeadCell) => boolean} isWanted
   */
  reveal(isWanted) {
    const cell = this.cells.find(isWanted);
    const box = this.box.parentElement;
    if (!cell || !box) return;
    const [at, seen] = [cell.button.getBoundingClientRect(), box.getBoundingClientRect()];
    const names = this.box.querySelector(".atlas-layer")?.offsetWidth ?? 0; // they stay at the left, over the rest
    box.scrollTop += Math.min(0, at.top - seen.top - GAP) || Math.max(0, at.bottom - seen.bottom + GAP);
    box.scrollLeft += Math.min(0, at.left - seen.left - names - GAP) || Math.max(0, at.right - seen.right + GAP);
  }

  /** @param {HeadCell | undefined} cell the only one that Tab reaches */
  stopAt(cell) {
    if (this.stop) this.stop.button.tabIndex = -1;
    this.stop = cell;
    if (cell) cell.button.tabIndex = 0;
  }

  /** Cells in lines, as they stand. @returns {HeadCell[][]} */
  get lines() {
    /** @type {Map<string | number, HeadCell[]>} */
    const lines = new Map();
    const isList = this.box.classList.contains("atlas-list");
    for (const cell of this.cells) {
      const line = isList ? cell.button.offsetTop : cell.layer;
      lines.set(line, [...(lines.get(line) ?? []), cell]);
    }
    return [...lines.values()];
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const target = /** @type {Element} */ (event.target);
    if (target.matches(".atlas-layer")) return this.host.onLayer(Number(target.textContent));
    const cell = this.ofButton.get(target.closest("button"));
    if (!cell) return;
    this.stopAt(cell);
    if (event.shiftKey) this.host.onCompare(cell);
    else this.host.onChoose(cell);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const cell = this.ofButton.get(/** @type {Element} */ (event.target));
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && event.shiftKey) {
      event.preventDefault();
      return this.host.onCompare(cell);
    }
    const lines = this.lines;
    const line = lines.findIndex((each) => each.includes(cell));
    const to = rove(event.key, { line, at: lines[line].indexOf(cell) }, lines.map((each) => each.length));
    if (!to) return;
    event.preventDefault();
    const next = lines[to.line][to.at];
    this.stopAt(next);
    next.button.focus();
  }
}
