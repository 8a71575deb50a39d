import { showCount, showToken, showWeight } from "../common/format.js";

const WAIT = 40; // milliseconds that the pointer rests before numbers are asked for

/** One line about the weight under the pointer or the pinned one, always in sight; beside it what it is compared with. */
export class Facts {
  /**
   * @param {HTMLElement} box
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(box, explorer) {
    this.box = box;
    this.explorer = explorer;
    /** @type {AbortController | null} */
    this.asking = null;
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const shown = ["subject", "compared", "hover", "query", "key", "second", "direction", "tokens"];
    if (shown.some((name) => changed.has(name))) void this.show();
  }

  /** The cell meant: under the pointer, else what is pinned, each with the other where it has one side only. */
  get cell() {
    const { hovered, state } = this.explorer;
    return { query: hovered?.query ?? state.query, key: hovered?.key ?? state.key };
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
    if (state.second) lines.push(this.line("compared: ", subject, state.second, signal));
    try {
      const texts = await Promise.all(lines);
      if (!signal.aborted) this.box.textContent = texts.join("\n");
    } catch (error) {
      if (!signal.aborted) this.box.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** What is known without asking. */
  hint({ query, key }) {
    const { subject } = this.explorer;
    const from = query === null ? "" : showToken(subject.queries.text(query), query);
    const to = key === null ? "" : showToken(subject.keys.text(key), key);
    if (from && to) return `${from} → ${to}`;
    if (from) return `${subject.name}: what ${from} looks at`;
    if (to) return `${subject.name}: what looks at ${to}`;
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
