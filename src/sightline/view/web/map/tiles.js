const KEPT = 400; // tiles, 256 kB each at most
const AT_ONCE = 4;

/** Tiles of one head that are here or on their way: a sampled one first where the exact one takes long. */
export class Tiles {
  /**
   * @param {import("../source/types.js").Source} source
   * @param {() => void} onChange
   * @param {(error: Error) => void} onError
   */
  constructor(source, onChange, onError) {
    this.source = source;
    this.onChange = onChange;
    this.onError = onError;
    /** @type {Map<string, any>} */
    this.kept = new Map();
    /** @type {Map<string, AbortController>} */
    this.running = new Map();
    /** @type {import("../source/types.js").TileName[]} */
    this.wanted = [];
    /** @type {import("../source/types.js").Place} */
    this.place = { trace: "", call: 0, head: "0" };
    this.reduce = "mean";
    this.of = "";
    this.paused = false;
  }

  /**
   * Of this head and reduction from now on.
   * @param {import("../source/types.js").Place} place
   * @param {string} reduce
   */
  use(place, reduce) {
    const of = JSON.stringify([place, reduce]);
    if (of === this.of) return;
    this.of = of;
    this.place = place;
    this.reduce = reduce;
    this.paused = false;
    this.stop();
  }

  key(tile) {
    return `${this.of} ${tile.level} ${tile.row} ${tile.column}`;
  }

  get(tile) {
    return this.kept.get(this.key(tile));
  }

  /** These tiles are in view, the most wanted first; other requests that are on their way are cancelled. */
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
    const idle = (tile) => !this.running.has(this.key(tile));
    const missing = this.wanted.filter((tile) => !this.get(tile));
    const rough = this.paused || missing.length > 0 ? [] : this.wanted.filter((tile) => this.get(tile).sampled);
    for (const tile of missing.filter(idle)) if (this.running.size < AT_ONCE) void this.load(tile, true);
    for (const tile of rough.filter(idle)) if (this.running.size < AT_ONCE) void this.load(tile, false);
  }

  async load(tile, quick) {
    const key = this.key(tile);
    const controller = new AbortController();
    this.running.set(key, controller);
    try {
      const how = { reduce: this.reduce, quick, signal: controller.signal };
      const picture = await this.source.tile(this.place, tile, how);
      this.kept.delete(key);
      this.kept.set(key, picture);
      if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    } catch (error) {
      if (!controller.signal.aborted) {
        this.wanted = this.wanted.filter((each) => this.key(each) !== key);
        this.onError(/** @type {Error} */ (error));
      }
    }
    if (this.running.get(key) === controller) this.running.delete(key);
    this.next();
    this.onChange();
  }
}
