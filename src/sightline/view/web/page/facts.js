import { showCount, showToken, showWeight } from "../common/format.js";

const WAIT = 40; // milliseconds that the pointer rests before numbers are asked for

/**
 * A part of the map.
 * @typedef {{queries: import("../map/canvas.js").Range, keys: import("../map/canvas.js").Range}} Seen
 */

/**
 * The cell that is meant: what is under the pointer, else what is pinned, as far as it is in view.
 * @param {{query: number | null, key: number | null} | null} hovered
 * @param {{query: number | null, key: number | null}} pinned
 * @param {Seen | null} seen null where everything is
 */
export function cellMeant(hovered, pinned, seen) {
  const inView = (at, range) => (at !== null && range && (at < range.from || at >= range.to) ? null : at);
  return {
    query: hovered?.query ?? inView(pinned.query, seen?.queries),
    key: hovered?.key ?? inView(pinned.key, seen?.keys),
  };
}

/** One line about the weight under the pointer or the pinned one, always in sight; beside it what it is compared with. */
export class Facts {
  /**
   * @param {HTMLElement} box
   * @param {import("../explorer.js").Explorer} explorer
   * @param {() => Seen | null} seen what the map shows, null where that is everything
   */
  constructor(box, explorer, seen) {
    this.box = box;
    this.explorer = explorer;
    /** @type {AbortController | null} */
    this.asking = null;
    this.seen = seen;
    // What is scrolled to must not lie under this line.
    const root = document.documentElement;
    new ResizeObserver(() => root.style.setProperty("--facts", `${box.offsetHeight}px`)).observe(box);
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const shown = ["subject", "compared", "hover", "query", "key", "second", "direction", "tokens", "view", "full"];
    if (shown.some((name) => changed.has(name))) void this.show();
  }

  get cell() {
    const { hovered, state } = this.explorer;
    return cellMeant(hovered, state, this.seen());
  }

  async show() {
    this.asking?.abort();
    const { explorer, cell } = this;
    const { subject, versus, state } = explorer;
    const controller = (this.asking = new AbortController());
    const { signal } = controller;
    this.box.textContent = this.hint(cell);
    if (cell.query === null || cell.key === null) return;
    await new Promise((resolve) => setTimeout(resolve, WAIT));
    if (signal.aborted) return;
    const lines = [this.line("", subject, cell, signal)];
    if (versus && cell.query < versus.layer.n && cell.key < versus.layer.m) lines.push(this.line(`${versus.name}: `, versus, cell, signal));
    const second = state.second && cellMeant(null, state.second, this.seen());
    if (second && second.query !== null && second.key !== null) lines.push(this.line("compared: ", subject, second, signal));
    try {
      const texts = await Promise.all(lines);
      if (!signal.aborted) this.box.textContent = texts.join("\n");
    } catch (error) {
      if (!signal.aborted) this.box.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** What is known without asking. */
  hint({ query, key }) {
    const { subject, state } = this.explorer;
    const from = query === null ? "" : showToken(subject.queries.text(query), query);
    const to = key === null ? "" : showToken(subject.keys.text(key), key);
    if (from && to) return `${from} → ${to}`;
    if (from) return `${subject.name}: what ${from} looks at`;
    if (to) return `${subject.name}: what looks at ${to}`;
    const seen = this.seen();
    if (seen) {
      const span = (tokens, { from, to }) => `${showToken(tokens.text(from), from)} to ${showToken(tokens.text(to - 1), to - 1)}`;
      const pinned = state.query !== null || state.key !== null ? "; what is pinned lies outside" : "";
      return `${subject.name} in view: queries ${span(subject.queries, seen.queries)}, keys ${span(subject.keys, seen.keys)}${pinned}`;
    }
    return `${subject.name}: hover a token or a cell; click to pin it.`;
  }

  async line(prefix, subject, { query, key }, signal) {
    const cell = await subject.source.cell(subject.place, query, key, signal);
    await Promise.all([subject.queries.ready(query, query + 1), subject.keys.ready(key, key + 1)]);
    const pair = `${showToken(subject.queries.text(query), query)} → ${showToken(subject.keys.text(key), key)}`;
    const parts = [`weight ${showWeight(cell.weight)}`];
    if (cell.score !== null) parts.push(`score ${cell.score.toFixed(3)}`);
    if (cell.rank !== null) parts.push(`rank ${showCount(cell.rank)} of ${showCount(cell.of)}`);
    if (cell.entropy !== null) parts.push(`row entropy ${cell.entropy.toFixed(4)} nats`);
    return `${prefix}${pair} · ${parts.join(" · ")}`;
  }
}
