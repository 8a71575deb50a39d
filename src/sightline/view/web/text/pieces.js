import { element } from "../common/dom.js";

const PIECE = 200; // tokens that are laid out together
const AHEAD = "500px 0px"; // so far beyond what is visible
const CHARACTERS = 6; // of a token with its blank, before any was measured

/**
 * A long text in pieces: those near what is visible are laid out, the others are as high as they were or will
 * roughly be.
 */
export class TextPieces {
  /**
   * @param {HTMLElement} box that scrolls
   * @param {import("../source/tokens.js").TokenCache} tokens
   * @param {(at: number, text: string) => HTMLElement} spanOf
   * @param {(piece: TextPiece) => void} onFill
   */
  constructor(box, tokens, spanOf, onFill) {
    this.box = box;
    this.tokens = tokens;
    this.spanOf = spanOf;
    this.onFill = onFill;
    const { count } = tokens.side;
    this.pieces = Array.from({ length: Math.ceil(count / PIECE) }, (_, place) => {
      return new TextPiece(place * PIECE, Math.min(count, (place + 1) * PIECE));
    });
    /** @type {Set<TextPiece>} */
    this.filled = new Set();
    this.byNode = new Map(this.pieces.map((piece) => [piece.node, piece]));
    this.estimate();
    box.replaceChildren(...this.pieces.map((piece) => piece.node));
    this.observer = new IntersectionObserver((entries) => this.follow(entries), { root: box, rootMargin: AHEAD });
    for (const piece of this.pieces) this.observer.observe(piece.node);
  }

  /** Give every piece a height, before any was laid out. */
  estimate() {
    const style = getComputedStyle(this.box);
    const letter = parseFloat(style.fontSize) * 0.5;
    const line = parseFloat(style.lineHeight) || 30;
    const perLine = Math.max(1, Math.floor((this.box.clientWidth || 400) / (letter * CHARACTERS)));
    for (const piece of this.pieces) piece.node.style.height = `${Math.ceil((piece.to - piece.from) / perLine) * line}px`;
  }

  /** @param {IntersectionObserverEntry[]} entries */
  follow(entries) {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      const piece = this.byNode.get(/** @type {HTMLElement} */ (target));
      piece.near = isIntersecting;
      if (isIntersecting) void this.show(piece);
      // A box that is hidden has no heights to keep.
      else if (boundingClientRect.height > 0) this.empty(piece, boundingClientRect.height);
    }
  }

  /** @param {TextPiece} piece */
  async show(piece) {
    await this.tokens.ready(piece.from, piece.to);
    if (piece.near) this.fill(piece);
  }

  /** @param {TextPiece} piece */
  fill(piece) {
    if (this.filled.has(piece)) return;
    const { tokens } = this;
    const parts = [];
    for (let at = piece.from; at < piece.to; at++) {
      if (at > piece.from && !tokens.glued(at)) parts.push(" ");
      parts.push((piece.spans[at - piece.from] = this.spanOf(at, tokens.text(at))));
    }
    piece.node.replaceChildren(...parts);
    piece.node.style.height = "";
    this.filled.add(piece);
    this.onFill(piece);
  }

  /** @param {TextPiece} piece @param {number} height */
  empty(piece, height) {
    if (!this.filled.delete(piece)) return;
    piece.node.style.height = `${height}px`;
    piece.node.replaceChildren();
    piece.spans = [];
  }

  /** The element of a token, if it is laid out. @param {number} at */
  span(at) {
    const piece = this.pieces[Math.floor(at / PIECE)];
    return piece?.spans[at - piece.from] ?? null;
  }

  /** Bring a token into sight, laid out or not, inside the box only. @param {number} at */
  async reveal(at) {
    const place = Math.floor(at / PIECE);
    // With its neighbours, so that nothing moves afterwards.
    const around = this.pieces.slice(Math.max(0, place - 1), place + 2);
    if (around.length === 0) return;
    await this.tokens.ready(around[0].from, around[around.length - 1].to);
    for (const piece of around) {
      piece.near = true;
      this.fill(piece);
    }
    const span = this.span(at);
    const { box } = this;
    const top = span.offsetTop; // the box is what it is positioned in
    if (top >= box.scrollTop && top + span.offsetHeight <= box.scrollTop + box.clientHeight) return;
    box.scrollTop = Math.max(0, top - box.clientHeight / 2);
  }

  /** Nothing of it is used any more. */
  close() {
    this.observer.disconnect();
  }
}

/** Some tokens of a text and, while they are laid out, their elements. */
export class TextPiece {
  /** @param {number} from @param {number} to */
  constructor(from, to) {
    this.from = from;
    this.to = to;
    this.near = false;
    /** @type {HTMLElement[]} */
    this.spans = [];
    this.node = element("div", { class: "piece", role: "presentation" });
  }
}
