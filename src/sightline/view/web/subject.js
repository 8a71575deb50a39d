import { entropyOf, rankIn, topOf } from "./rows.js";
import { unitColumn, unitRow } from "./units.js";
import { HIDDEN, maskedScore } from "./weights.js";

/**
 * The head that is looked at, in the units shown, with its last rows and columns at hand.
 */
export class Subject {
  /**
   * @param {import("./data.js").Data} data
   * @param {import("./state.js").State} state
   */
  constructor(data, state) {
    this.words = state.words;
    this.section = data.section(state.section);
    this.isSelf = this.section.isSelf;
    const sides = [this.section.queries, this.section.keys ?? this.section.queries];
    /** What is looked at: words, or places that have no text. */
    this.unit = sides.every((side) => side.places) ? "place" : "word";
    this.head = data.head(state.section, state.layer, state.head);
    this.queries = data.side(state.section, "queries", state.words);
    this.keys = data.side(state.section, "keys", state.words);
    this.place = { layer: state.layer, head: state.head };
    this.tensors = data.layer(state.section, state.layer).tensors;
    /** @type {Map<string, Float64Array>} */
    this.cache = new Map();
  }

  /**
   * Weights of query unit u.
   * @param {number} u
   */
  row(u) {
    return this.kept(`r${u}`, () => unitRow(this.head, this.queries, this.keys, u));
  }

  /**
   * Weights that key unit v gets from every query.
   * @param {number} v
   */
  column(v) {
    return this.kept(`c${v}`, () => unitColumn(this.head, this.queries, this.keys, v));
  }

  /** What each key unit gets from an average query: column sums, divided by the number of queries. */
  received() {
    return this.kept("received", () => {
      const { data, shape } = this.tensors.received;
      const start = this.place.head * shape[1];
      return Float64Array.from({ length: this.keys.count }, (_, v) => {
        let sum = 0;
        for (let j = this.keys.starts[v]; j < this.keys.starts[v + 1]; j++) sum += data[start + j];
        return sum / this.head.n;
      });
    });
  }

  /**
   * Everything exact about one weight.
   * @param {number} u query unit
   * @param {number} v key unit
   */
  facts(u, v) {
    const row = this.row(u);
    const hidden = row[v] === HIDDEN;
    const single = !this.words || (size(this.queries, u) === 1 && size(this.keys, v) === 1);
    return {
      query: this.queries.texts[u],
      key: this.keys.texts[v],
      weight: hidden ? null : row[v],
      score: single && !hidden ? maskedScore(this.head, this.queries.starts[u], this.keys.starts[v]) : null,
      ...rankIn(row, v),
      entropy: entropyOf(row),
    };
  }

  /**
   * @param {ArrayLike<number>} row
   * @param {number} k
   */
  top(row, k) {
    return topOf(row, k);
  }

  kept(name, compute) {
    const known = this.cache.get(name);
    if (known) return known;
    const value = compute();
    if (this.cache.size > 64) this.cache.clear();
    this.cache.set(name, value);
    return value;
  }
}

function size(side, unit) {
  return side.starts[unit + 1] - side.starts[unit];
}
