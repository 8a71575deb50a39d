import { normed } from "./layers.js";

/** Keys and values of one layer, kept while a text is written: each row once, whichever candidates it belongs to. */
class KeptRows {
  constructor(row) {
    this.row = row; // numbers of one row
    this.count = 0;
    this.key = new Float32Array(64 * row);
    this.value = new Float32Array(64 * row);
  }

  append(key, value) {
    const end = this.count * this.row + key.length;
    if (end > this.key.length) {
      this.key = grown(this.key, 2 * end);
      this.value = grown(this.value, 2 * end);
    }
    this.key.set(key, this.count * this.row);
    this.value.set(value, this.count * this.row);
    this.count = end / this.row;
  }
}

function grown(numbers, length) {
  const out = new Float32Array(length);
  out.set(numbers);
  return out;
}

/**
 * A decoder in the middle of writing. Candidates share what they have in common: each is a path of rows in the cache.
 */
export class DecoderSteps {
  /**
   * @param {import("./stack.js").Stack} stack
   * @param {{states: Float32Array, count: number} | null} memory
   * @param {import("./attention.js").Watch} watch
   */
  constructor(stack, memory, watch) {
    this.stack = stack;
    this.watch = watch;
    this.kept = stack.blocks.map(({ own }) => new KeptRows(own.call.groups * own.call.width));
    this.memory = memory && stack.blocks.map(({ cross }) => this.recalled(cross, memory));
    /** @type {number[][]} rows of the cache, for each candidate */
    this.paths = [];
  }

  /** Keys and values of the memory, projected once. */
  recalled(cross, { states, count }) {
    const places = Array.from({ length: count }, (_, i) => i);
    const none = new Float32Array(0);
    const { key, value } = cross.project(none, [], states, places, this.watch.changes.of(cross.call));
    return { key, value, count };
  }

  /**
   * The first tokens, of one candidate: vectors [N,C] → states [N,C].
   * @param {Float32Array} x
   * @param {number} count N
   */
  begin(x, count) {
    const places = Array.from({ length: count }, (_, i) => i);
    this.paths = [places];
    return this.through(x, { positions: places, paths: null });
  }

  /**
   * One more token of each candidate: vectors [R,C] → states [R,C].
   * @param {Float32Array} x
   * @param {number[]} origins which candidate of the step before each goes on from
   */
  next(x, origins) {
    const first = this.kept.length ? this.kept[0].count : 0;
    this.paths = origins.map((origin, r) => [...this.paths[origin], first + r]);
    const positions = this.paths.map((path) => path.length - 1);
    return this.through(x, { positions, paths: this.paths });
  }

  through(x, rows) {
    const { changes } = this.watch;
    this.stack.blocks.forEach((block, at) => {
      const look = (y) => {
        const { query, key, value } = block.own.project(y, rows.positions, y, rows.positions, changes.of(block.own.call));
        this.kept[at].append(key, value);
        return block.own.attend(query, rows, this.kept[at], this.watch);
      };
      const recall = (y) => {
        const { query } = block.cross.project(y, rows.positions, null, [], changes.of(block.cross.call));
        return block.cross.attend(query, { positions: rows.positions, paths: null }, this.memory[at], this.watch);
      };
      x = block.forward(x, look, block.cross && recall);
    });
    return normed(x, this.stack.norm);
  }
}
