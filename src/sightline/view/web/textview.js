import { byId, element } from "./dom.js";
import { HIDDEN } from "./weights.js";

const SHORT = 60; // queries and keys together: room for larger letters
const PIECE = 200; // tokens per paragraph, so that the browser can skip those out of sight

/** The text, shaded by what the selected unit looks at, or by who looks at it. */
export class TextView {
  /**
   * @param {import("./app.js").App} app
   */
  constructor(app) {
    this.app = app;
    this.box = byId("text");
    /** @type {{queries: any[], keys: any[]}} */
    this.spans = { queries: [], keys: [] };
    /** @type {any[]} those with a colour now */
    this.shaded = [];
    this.marked = null;
    this.listen();
  }

  /** Lay the tokens out anew: after another section, or words instead of tokens. */
  build() {
    const { subject } = this.app;
    this.shaded = [];
    this.marked = null;
    this.box.replaceChildren();
    byId("text-name").textContent = subject.unit === "place" ? "Positions" : "Text";
    this.box.dataset.short = String(subject.queries.count + subject.keys.count < SHORT);
    if (subject.isSelf) {
      const spans = this.panel("both", subject.queries, null);
      this.spans = { queries: spans, keys: spans };
    } else {
      const queries = this.panel("queries", subject.queries, "Target: queries");
      this.spans = { queries, keys: this.panel("keys", subject.keys, "Source: keys") };
    }
  }

  panel(role, side, title) {
    const spans = [];
    const body = element("div", { class: "tokens" });
    for (let start = 0; start < side.count; start += PIECE) {
      const piece = element("span", { class: "piece" });
      for (let u = start; u < Math.min(start + PIECE, side.count); u++) {
        if (u > 0 && !side.glued[u]) piece.append(" ");
        const span = element("span", { class: side.special[u] ? "t special" : "t" }, side.texts[u]);
        span.dataset.role = role;
        span.dataset.u = String(u);
        piece.append(span);
        spans.push(span);
      }
      body.append(piece);
    }
    if (title) this.box.append(element("h3", {}, title));
    this.box.append(body);
    return spans;
  }

  /** Colour what the selection looks at. Only colours change: nothing is laid out. */
  paint() {
    const { app } = this;
    const { subject, colours } = app;
    const { unit, direction } = app.selection();
    const values = unit === null ? subject.received() : direction === "to" ? subject.row(unit) : subject.column(unit);
    const targets = unit === null || direction === "to" ? this.spans.keys : this.spans.queries;
    const sources = direction === "to" ? this.spans.queries : this.spans.keys;
    for (const span of this.shaded) {
      span.style.backgroundColor = "";
      span.style.color = "";
    }
    this.shaded = [];
    for (let v = 0; v < targets.length; v++) {
      const t = values[v] === HIDDEN ? 0 : app.shade(values[v]);
      if (t < 0.02) continue;
      targets[v].style.backgroundColor = colours.css(t);
      targets[v].style.color = colours.ink(t);
      this.shaded.push(targets[v]);
    }
    this.marked?.classList.remove("chosen", "pinned");
    this.marked = unit === null ? null : sources[unit];
    this.marked?.classList.add("chosen");
    this.marked?.classList.toggle("pinned", app.hovered === null);
  }

  /** Bring the chosen token into sight, inside its own box only. */
  reveal() {
    const span = this.marked;
    if (!span || this.box.scrollHeight <= this.box.clientHeight) return;
    const top = span.offsetTop; // the box is what it is positioned in
    if (top < this.box.scrollTop || top > this.box.scrollTop + this.box.clientHeight - 40) {
      this.box.scrollTop = top - this.box.clientHeight / 2;
    }
  }

  listen() {
    const unitAt = (event) => {
      const span = event.target.closest?.(".t");
      if (!span) return null;
      const needed = this.app.store.state.direction === "to" ? "queries" : "keys";
      return { unit: Number(span.dataset.u), active: [needed, "both"].includes(span.dataset.role) };
    };
    this.box.addEventListener("pointerover", (event) => {
      const hit = unitAt(event);
      if (!hit) return;
      if (hit.active && event.pointerType !== "touch") this.app.hover(hit.unit);
      this.app.pointTo(hit);
    });
    this.box.addEventListener("pointerleave", () => this.app.hover(null));
    this.box.addEventListener("click", (event) => {
      const hit = unitAt(event);
      if (!hit) return;
      const { direction, pin } = this.app.store.state;
      if (hit.active) this.app.store.set({ pin: pin === hit.unit ? null : hit.unit });
      else this.app.store.set({ direction: direction === "to" ? "from" : "to", pin: hit.unit });
    });
  }
}
