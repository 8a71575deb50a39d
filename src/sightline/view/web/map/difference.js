/** Tiles of one head less those of another of the same size, as a map takes them. */
export class DifferenceTiles {
  /**
   * @param {import("./tiles.js").Tiles} first
   * @param {import("./tiles.js").Tiles} second
   */
  constructor(first, second) {
    this.first = first;
    this.second = second;
    /** @type {WeakMap<object, {of: object, made: any}>} */
    this.made = new WeakMap();
  }

  get(tile) {
    const [a, b] = [this.first.get(tile), this.second.get(tile)];
    if (!a || !b) return undefined;
    const known = this.made.get(a);
    if (known?.of === b) return known.made;
    const made = { ...a, values: subtract(a.values, b.values), sampled: a.sampled || b.sampled };
    this.made.set(a, { of: b, made });
    return made;
  }

  want(tiles) {
    this.first.want(tiles);
    this.second.want(tiles);
  }

  stop() {
    this.first.stop();
    this.second.stop();
  }

  set paused(paused) {
    this.first.paused = this.second.paused = paused;
  }

  get paused() {
    return this.first.paused;
  }

  get open() {
    return Math.max(this.first.open, this.second.open);
  }
}

/**
 * Cell by cell; a cell that either may not look at is absent.
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
export function subtract(a, b) {
  return a.map((value, at) => value - b[at]); // NaN stays NaN
}
