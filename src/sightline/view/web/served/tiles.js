const KEPT = 400; // tiles, 256 kB each at most
const AT_ONCE = 4;

/** Tiles of one head that are here or on their way: a sampled one first where the exact one takes long. */
export class Tiles {
  /**
   * @param {import("./source.js").ServedSource} source
   * @param {() => void} onChange
   * @param {(error: Error) => void} onError
   */
  constructor(source, onChange, onError) {
    Object.assign(this, { source, onChange, onError });
    /** @type {Map<string, any>} */
    this.kept = new Map();
    /** @type {Map<string, AbortController>} */
    this.running = new Map();
    this.wanted = [];
    this.paused = false;
  }

  /** Of this head and reduction from now on. */
  use(head, reduce) {
    const key = JSON.stringify([head, reduce]);
    if (key === this.of) return;
    Object.assign(this, { of: key, head, reduce });
    this.stop();
  }

  key(tile) {
    return `${this.of} ${tile.level} ${tile.row} ${tile.column}`;
  }

  get(tile) {
    return this.kept.get(this.key(tile));
  }

  /** These tiles are in view, the most wanted first; what is on its way and not among them is let go of. */
  want(tiles) {
    this.wanted = tiles;
    const keys = new Set(tiles.map((tile) => this.key(tile)));
    for (const [key, controller] of this.running) if (!keys.has(key)) controller.abort();
    this.next();
  }

  /** Nothing more of what is on its way. */
  stop() {
    this.wanted = [];
    for (const controller of this.running.values()) controller.abort();
  }

  /** How many tiles in view are not exact yet. */
  get open() {
    return this.wanted.filter((tile) => this.get(tile)?.sampled ?? true).length;
  }

  next() {
    const missing = this.wanted.filter((tile) => !this.get(tile) && !this.running.has(this.key(tile)));
    const rough = this.paused ? [] : this.wanted.filter((tile) => this.get(tile)?.sampled && !this.running.has(this.key(tile)));
    for (const tile of missing) if (this.running.size < AT_ONCE) this.load(tile, "quick");
    if (missing.length === 0) for (const tile of rough) if (this.running.size < AT_ONCE) this.load(tile, "exact");
  }

  async load(tile, quality) {
    const key = this.key(tile);
    const controller = new AbortController();
    this.running.set(key, controller);
    try {
      const query = { ...tile, reduce: this.reduce, quality };
      this.kept.set(key, await this.source.numbers(this.head, "tile", query, controller.signal));
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    } catch (error) {
      if (!controller.signal.aborted) {
        this.wanted = this.wanted.filter((each) => this.key(each) !== key);
        this.onError(error);
      }
    }
    this.running.delete(key);
    this.next();
    this.onChange();
  }
}
