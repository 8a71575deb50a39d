import { headOf } from "../compute/head.js";
import { meanRow } from "../compute/rows.js";

/**
 * What a page shows of one run: for each call of attention the vectors that its weights follow from, as
 * compute/head.js takes a layer, and the residual stream before and behind each block.
 */
export class Capture {
  constructor() {
    /**
     * In the order in which they ran; `contexts` [N, H·D] are what the heads gave.
     * @type {{section: string, name: string, layer: import("../compute/head.js").Layer, contexts: Float32Array}[]}
     */
    this.calls = [];
    /** @type {Object<string, Float32Array[]>} of each stack [N,C]: what enters it, then what each block gives */
    this.residual = {};
  }

  /**
   * A call begins.
   * @param {import("./attention.js").AttentionLayer} attention
   * @param {Float32Array} query [N, H·D]
   * @param {import("./attention.js").Rows} rows
   * @param {import("./attention.js").Kept} kept
   * @param {boolean} moved whether changes act on its scores
   * @returns {CaughtCall}
   */
  open(attention, query, rows, kept, moved) {
    const caught = new CaughtCall(attention, query, rows.positions.length, kept, moved);
    this.calls.push({ section: attention.call.section, name: attention.name, layer: caught.layer, contexts: caught.contexts });
    return caught;
  }

  /** @param {string} stack @param {Float32Array} states [N,C] */
  stream(stack, states) {
    (this.residual[stack] ??= []).push(Float32Array.from(states));
  }
}

/** One call while its rows are computed. */
class CaughtCall {
  constructor(attention, query, n, { key, value, count: m }, moved) {
    const { heads, groups, width } = attention.call;
    this.contexts = new Float32Array(query.length);
    const { slopes, table } = attention.bias;
    const tensor = (data, ...shape) => ({ data, shape });
    /** @type {any} */
    const tensors = {
      query: tensor(byHead(query, n, heads, width), heads, n, width),
      key: tensor(byHead(key, m, groups, width), groups, m, width),
      value: tensor(byHead(value, m, groups, width), groups, m, width),
      lse: tensor(new Float32Array(heads * n), heads, n),
    };
    if (slopes) tensors.slopes = tensor(slopes, heads);
    if (table) tensors.table = tensor(table, heads, table.length / heads);
    if (moved) tensors.bias = tensor(new Float32Array(heads * n * m), heads, n, m);
    const ranges = rangesOf(attention, n, m);
    if (ranges) tensors.ranges = tensor(ranges, 1, n, 1, 2);
    this.layer = { heads, groups, n, m, width, scale: attention.scale, softcap: null, offset: m - n, tensors };
  }

  /** The log-sum-exp of a row. */
  row(head, r, lse) {
    this.layer.tensors.lse.data[head * this.layer.n + r] = lse;
  }

  /** Where it is told by how much a row's scores were moved; null where changes move none. */
  bias(head, r) {
    const { n, m, tensors } = this.layer;
    return tensors.bias?.data.subarray((head * n + r) * m, (head * n + r + 1) * m) ?? null;
  }

  /** A head whose context became the mean over the queries: each of them has the mean of all queries' weights, ln of which is its bias. */
  average(head) {
    const { heads, n, m, width, tensors } = this.layer;
    const logs = meanRow([headOf(this.layer, head)], "mean", 0, n).map((weight) => (weight > 0 ? Math.log(weight) : -Infinity));
    for (let i = 0; i < n; i++) tensors.bias.data.set(logs, (head * n + i) * m);
    tensors.query.data.fill(0, head * n * width, (head + 1) * n * width);
    tensors.lse.data.fill(0, head * n, (head + 1) * n);
    // What comes on top of a score, and which keys are seen, is another matter for this head than for the others.
    if (tensors.slopes) tensors.slopes = cleared(tensors.slopes, head, 1);
    if (tensors.table) tensors.table = cleared(tensors.table, head, tensors.table.shape[1]);
    if (tensors.ranges) tensors.ranges = { data: rangesWithAll(tensors.ranges, heads, head, n, m), shape: [heads, n, 1, 2] };
  }
}

/** The keys that each query may see, [N,2]; null where all see all. */
function rangesOf(attention, n, m) {
  const ranges = new Int32Array(2 * n);
  let all = true;
  for (let i = 0; i < n; i++) {
    const [lo, hi] = attention.reach(i, m);
    ranges[2 * i] = lo;
    ranges[2 * i + 1] = hi;
    all &&= lo === 0 && hi === m;
  }
  return all ? null : ranges;
}

/** The model's own numbers with 0 in the place of a head's. */
function cleared({ data, shape }, head, size) {
  return { data: Float32Array.from(data).fill(0, head * size, (head + 1) * size), shape };
}

/** The ranges of each head, of which one sees all keys. */
function rangesWithAll({ data, shape }, heads, head, n, m) {
  const each = new Int32Array(heads * 2 * n);
  for (let h = 0; h < heads; h++) each.set(shape[0] === 1 ? data : data.subarray(2 * n * h, 2 * n * (h + 1)), 2 * n * h);
  for (let i = 0; i < n; i++) each.set([0, m], 2 * (head * n + i));
  return each;
}

/** [R, heads · D] → [heads, R, D]. */
function byHead(x, rows, heads, width) {
  const out = new Float32Array(rows * heads * width);
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < heads; h++) {
      const from = (r * heads + h) * width;
      out.set(x.subarray(from, from + width), (h * rows + r) * width);
    }
  }
  return out;
}
