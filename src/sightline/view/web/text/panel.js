import { element } from "../common/dom.js";
import { mergedWeight } from "./merge.js";
import { TextPieces } from "./pieces.js";

const VISIBLE = 0.02; // of the scale: less is not shaded
let panels = 0;

/**
 * What a panel needs of its view.
 * @typedef {object} PanelHost
 * @property {(at: number) => import("./merge.js").TokenRange} rangeOf a token, or with words merged its word
 * @property {(at: number | null) => void} onHover
 * @property {(at: number) => void} onPin
 */

/** The tokens of one side as text: shaded, hovered, pinned. */
export class TextPanel {
  /**
   * @param {import("../source/tokens.js").TokenCache} tokens
   * @param {import("./pointing.js").Role} role
   * @param {string} title
   * @param {PanelHost} host
   */
  constructor(tokens, role, title, host) {
    this.tokens = tokens;
    this.role = role;
    this.host = host;
    this.name = `token-${++panels}`;
    this.cursor = 0;
    /** @type {{shading: import("./shading.js").Shading | null, scale: (weight: number) => number, colours: import("../common/colour.js").ColourMap}} */
    this.look = { shading: null, scale: () => 0, colours: null };
    /** @type {Object<string, import("./merge.js").TokenRange | null>} by the class that marks it */
    this.marks = {};
    const label = `${title || "text"}: arrows move from token to token, Enter pins`;
    this.box = element("div", { class: "tokens", tabindex: 0, role: "listbox", "aria-label": label, "aria-orientation": "horizontal", "data-own-arrows": true, "data-role": role });
    this.node = element("section", { class: "panel" }, ...(title ? [element("h3", {}, title)] : []), this.box);
    this.listen();
  }

  /** Lay the text out; the panel must be in the page. */
  open() {
    const spanOf = (at, text) => {
      const kind = this.tokens.special(at) ? "t special" : "t";
      const shown = text.trim() === "" ? "␣" : text;
      return element("span", { class: kind, id: `${this.name}-${at}`, role: "option", "aria-selected": "false", "data-at": at }, shown);
    };
    this.pieces = new TextPieces(this.box, this.tokens, spanOf, (piece) => this.paintPiece(piece));
  }

  close() {
    this.pieces?.close();
  }

  listen() {
    const { box, host } = this;
    const atOf = (event) => {
      const span = /** @type {Element} */ (event.target).closest?.("[data-at]");
      return span ? Number(/** @type {HTMLElement} */ (span).dataset.at) : null;
    };
    box.addEventListener("pointerover", (event) => {
      const at = atOf(event);
      if (at !== null && event.pointerType !== "touch") host.onHover(at);
    });
    box.addEventListener("pointerleave", () => host.onHover(null));
    box.addEventListener("click", (event) => {
      const at = atOf(event);
      if (at === null) return;
      this.cursor = at;
      host.onPin(at);
    });
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("blur", () => {
      box.removeAttribute("aria-activedescendant");
      if (!this.marks.cursor) return;
      this.mark({ ...this.marks, cursor: null });
      host.onHover(null);
    });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const { from, to } = this.host.rangeOf(this.cursor);
    const { count } = this.tokens.side;
    const goal = { ArrowRight: to, ArrowLeft: from - 1, Home: 0, End: count - 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.host.onPin(this.cursor);
    } else if (goal !== undefined) {
      event.preventDefault();
      this.cursor = Math.min(Math.max(0, goal), count - 1);
      void this.follow();
    }
  }

  /** The keyboard is at another token. */
  async follow() {
    const { cursor, host, box } = this;
    await this.pieces.reveal(cursor);
    if (cursor !== this.cursor || !box.matches(":focus")) return;
    box.setAttribute("aria-activedescendant", `${this.name}-${cursor}`);
    this.mark({ ...this.marks, cursor: host.rangeOf(cursor) });
    host.onHover(cursor);
  }

  /** Colour what is laid out. @param {TextPanel["look"]} look */
  paint(look) {
    this.look = look;
    if (this.pieces) for (const piece of this.pieces.filled) this.paintPiece(piece);
  }

  /** @param {import("./pieces.js").TextPiece} piece */
  paintPiece(piece) {
    for (let at = piece.from; at < piece.to; ) {
      const unit = this.host.rangeOf(at);
      const end = Math.min(Math.max(unit.to, at + 1), piece.to);
      this.paintUnit(unit, piece.spans.slice(at - piece.from, end - piece.from));
      at = end;
    }
    for (const [name, range] of Object.entries(this.marks)) this.toggle(name, range, true, piece);
  }

  paintUnit(unit, spans) {
    const { shading, scale, colours } = this.look;
    const value = shading ? mergedWeight(shading.values, unit.from, unit.to, shading.how) : 0;
    const t = Math.min(1, scale(value));
    const [back, ink] = t >= VISIBLE ? [colours.css(t), colours.ink(t)] : ["", ""];
    for (const span of spans) {
      // What is as it was is left alone.
      if (span.style.backgroundColor !== back) span.style.backgroundColor = back;
      if (span.style.color !== ink) span.style.color = ink;
      span.classList.toggle("unseen", Number.isNaN(value));
    }
  }

  /** Mark ranges of tokens, each with a class. @param {Object<string, import("./merge.js").TokenRange | null>} marks */
  mark(marks) {
    for (const [name, range] of Object.entries(this.marks)) this.toggle(name, range, false);
    this.marks = marks;
    for (const [name, range] of Object.entries(marks)) this.toggle(name, range, true);
  }

  toggle(name, range, on, piece = null) {
    if (!range || !this.pieces) return;
    const [from, to] = piece ? [Math.max(range.from, piece.from), Math.min(range.to, piece.to)] : [range.from, range.to];
    for (let at = from; at < to; at++) {
      const span = this.pieces.span(at);
      span?.classList.toggle(name, on);
      if (name === "pinned") span?.setAttribute("aria-selected", String(on));
    }
  }
}
