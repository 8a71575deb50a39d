import { RotaryTurn } from "./positions.js";
import { product } from "./products.js";

/**
 * The rows of a step: where each stands, and which kept keys it may look at, by their places; null for all in order.
 * @typedef {{positions: number[], paths: number[][] | null}} Rows
 *
 * Keys and values that are looked at, [*, G·D].
 * @typedef {{key: Float32Array, value: Float32Array, count: number}} Kept
 *
 * What is done besides computing: changes, and what is kept for the page.
 * @typedef {{changes: import("./changes.js").Changes, capture: import("./capture.js").Capture | null}} Watch
 */

/** Attention with its projections, self or cross. */
export class AttentionLayer {
  /**
   * @param {import("./parameters.js").Parameters} parameters
   * @param {string} name of the module
   * @param {any} config
   * @param {{section: "encoder" | "decoder" | "cross", layer: number, slopes: Float32Array | null, table: Float32Array | null}} place
   */
  constructor(parameters, name, config, { section, layer, slopes, table }) {
    this.query = parameters.linear(`${name}.query`);
    this.key = parameters.linear(`${name}.key`);
    this.value = parameters.linear(`${name}.value`);
    this.output = parameters.linear(`${name}.output`);
    const width = config.width / config.heads;
    this.call = { section, layer, heads: config.heads, groups: config.kv_heads ?? config.heads, width };
    this.name = name;
    this.scale = 1 / Math.sqrt(width);
    this.rotary = config.positions === "rotary" && section !== "cross" ? new RotaryTurn(width, config.rotary_share) : null;
    this.bias = { slopes, table };
    const everywhere = config.global_every !== null && (layer + 1) % config.global_every === 0;
    this.window = section === "cross" || everywhere ? null : config.window;
  }

  /** The keys [lo, hi) that a query at a position may see, of `count`. @param {number} position @param {number} count */
  reach(position, count) {
    const { window, call } = this;
    if (call.section === "cross") return [0, count];
    if (call.section === "decoder") return [window === null ? 0 : Math.max(0, position - window + 1), Math.min(count, position + 1)];
    return window === null ? [0, count] : [Math.max(0, position - window), Math.min(count, position + window + 1)];
  }

  /**
   * Queries of x [R,C], and keys and values of `from`, turned by their positions and changed.
   * @param {Float32Array} x
   * @param {number[]} positions
   * @param {Float32Array | null} from x itself for self-attention; null where keys and values are known
   * @param {number[]} places positions of `from`
   * @param {import("./changes.js").CallChanges | null} acting
   */
  project(x, positions, from, places, acting) {
    const query = product(x, positions.length, this.query);
    const key = from ? product(from, places.length, this.key) : null;
    const value = from ? product(from, places.length, this.value) : null;
    this.rotary?.turn(query, positions);
    if (key) this.rotary?.turn(key, places);
    acting?.project?.({ query, key, value }, positions, places);
    return { query, key, value };
  }

  /**
   * Contexts through the output's projection, [R,C].
   * @param {Float32Array} query [R, H·D]
   * @param {Rows} rows
   * @param {Kept} kept
   * @param {Watch} watch
   */
  attend(query, rows, kept, { changes, capture }) {
    const { heads, groups, width } = this.call;
    const acting = changes.of(this.call);
    const caught = capture?.open(this, query, rows, kept, acting !== null && acting.score !== undefined);
    const context = caught?.contexts ?? new Float32Array(query.length);
    const count = rows.positions.length;
    for (let r = 0; r < count; r++) {
      const path = rows.paths === null ? null : rows.paths[r];
      const seen = path === null ? kept.count : path.length;
      const [lo, hi] = this.reach(rows.positions[r], seen);
      const scores = new Float64Array(seen);
      for (let h = 0; h < heads; h++) {
        const from = (r * heads + h) * width;
        const group = Math.floor((h * groups) / heads);
        this.scoresOf(query, from, kept.key, group, path, rows.positions[r], h, lo, hi, scores);
        if (acting?.score) this.changed(acting, h, rows.positions[r], scores, caught?.bias(h, r));
        const lse = weightsInPlace(scores);
        caught?.row(h, r, lse);
        mix(scores, kept.value, group * width, groups * width, path, context.subarray(from, from + width));
      }
    }
    acting?.contexts?.(context, rows.positions);
    for (let h = 0; caught && h < heads; h++) if (acting?.averages?.(h)) caught.average(h);
    return product(context, count, this.output);
  }

  /** Masked scores of one query in one head into scores[0..seen). */
  scoresOf(query, from, key, group, path, position, head, lo, hi, scores) {
    const { groups, width } = this.call;
    const { slopes, table } = this.bias;
    const reach = table === null ? 0 : (table.length / this.call.heads - 1) / 2;
    scores.fill(-Infinity, 0, lo);
    scores.fill(-Infinity, Math.max(lo, hi));
    for (let j = lo; j < hi; j++) {
      const at = ((path === null ? j : path[j]) * groups + group) * width;
      let sum = 0;
      for (let d = 0; d < width; d++) sum += query[from + d] * key[at + d];
      let score = sum * this.scale;
      if (slopes !== null) score -= slopes[head] * Math.abs(position - j);
      if (table !== null) score += table[head * (2 * reach + 1) + Math.min(Math.max(j - position, -reach), reach) + reach];
      scores[j] = score;
    }
  }

  /** Lets changes act on scores, and tells the page by how much they moved. */
  changed(acting, head, position, scores, bias) {
    const before = bias ? Float64Array.from(scores) : null;
    acting.score(head, position, scores);
    for (let j = 0; before && j < scores.length; j++) {
      bias[j] = scores[j] === -Infinity ? -Infinity : before[j] === -Infinity ? 0 : scores[j] - before[j];
    }
  }
}

/** Scores become weights; the log-sum-exp. With nothing to look at all weights are 0, and it is −∞. */
function weightsInPlace(scores) {
  let most = -Infinity;
  for (let j = 0; j < scores.length; j++) if (scores[j] > most) most = scores[j];
  if (most === -Infinity) {
    scores.fill(0);
    return -Infinity;
  }
  let sum = 0;
  for (let j = 0; j < scores.length; j++) {
    scores[j] = Math.exp(scores[j] - most);
    sum += scores[j];
  }
  for (let j = 0; j < scores.length; j++) scores[j] /= sum;
  return most + Math.log(sum);
}

/** Σ weights · value into out [E]. */
function mix(weights, value, offset, row, path, out) {
  for (let j = 0; j < weights.length; j++) {
    const weight = weights[j];
    if (weight === 0) continue;
    const at = (path === null ? j : path[j]) * row + offset;
    for (let e = 0; e < out.length; e++) out[e] += weight * value[at + e];
  }
}
