import { HIDDEN, weightsOfColumn, weightsOfRow } from "./weights.js";

/** @typedef {import("./head.js").Head} Head */

/**
 * Weights of one query for keys [from, to): of one head, or the mean or maximum over those heads that may look; HIDDEN
 * where none may.
 * @param {Head[]} heads
 * @param {string} over "mean" or "max", for several heads
 * @param {number} i
 * @param {number} from
 * @param {number} to
 * @param {Float32Array} out
 * @param {Float32Array} scratch as long as `out`
 */
export function rowOverHeads(heads, over, i, from, to, out, scratch) {
  joinHeads(heads, over, to - from, out, scratch, (head, into) => weightsOfRow(head, i, from, to, into));
}

/** Every head's weights, joined place by place. */
function joinHeads(heads, over, count, out, scratch, weights) {
  weights(heads[0], out);
  if (heads.length === 1) return;
  const seen = Uint16Array.from({ length: count }, (_, at) => (out[at] === HIDDEN ? 0 : 1));
  for (const head of heads.slice(1)) {
    weights(head, scratch);
    for (let at = 0; at < count; at++) {
      if (scratch[at] === HIDDEN) continue;
      if (seen[at]++ === 0) out[at] = scratch[at];
      else out[at] = over === "max" ? Math.max(out[at], scratch[at]) : out[at] + scratch[at];
    }
  }
  if (over === "mean") for (let at = 0; at < count; at++) if (seen[at] > 1) out[at] /= seen[at];
}

/**
 * [M]: the mean over queries [from, to) of their weights; NaN where none of them may look.
 * @param {Head[]} heads
 * @param {string} over
 * @param {number} from
 * @param {number} to
 * @returns {Float32Array}
 */
export function meanRow(heads, over, from, to) {
  const { m } = heads[0];
  const [row, scratch, sum] = [new Float32Array(m), new Float32Array(m), new Float32Array(m).fill(NaN)];
  for (let i = from; i < to; i++) {
    rowOverHeads(heads, over, i, 0, m, row, scratch);
    for (let j = 0; j < m; j++) if (row[j] !== HIDDEN) sum[j] = (Number.isNaN(sum[j]) ? 0 : sum[j]) + row[j] / (to - from);
  }
  return sum;
}

/**
 * [N]: the sum of what keys [from, to) get from every query; NaN where it may look at none of them.
 * @param {Head[]} heads
 * @param {string} over
 * @param {number} from
 * @param {number} to
 * @returns {Float32Array}
 */
export function sumColumn(heads, over, from, to) {
  const { n } = heads[0];
  const [column, scratch, sum] = [new Float32Array(n), new Float32Array(n), new Float32Array(n).fill(NaN)];
  for (let j = from; j < to; j++) {
    joinHeads(heads, over, n, column, scratch, (head, into) => weightsOfColumn(head, j, into));
    for (let i = 0; i < n; i++) if (column[i] !== HIDDEN) sum[i] = (Number.isNaN(sum[i]) ? 0 : sum[i]) + column[i];
  }
  return sum;
}

/**
 * −Σ w ln w of a row, in nats.
 * @param {ArrayLike<number>} row
 * @returns {number}
 */
export function entropyOf(row) {
  let sum = 0;
  for (let j = 0; j < row.length; j++) if (row[j] > 0) sum -= row[j] * Math.log(row[j]);
  return sum;
}

/**
 * The place of entry j among the visible ones, 1 for the largest, and how many are visible.
 * @param {ArrayLike<number>} row NaN: hidden
 * @param {number} j
 * @returns {{rank: number, of: number}}
 */
export function rankIn(row, j) {
  let rank = 1;
  let of = 0;
  for (let i = 0; i < row.length; i++) {
    if (Number.isNaN(row[i])) continue;
    of++;
    if (row[i] > row[j]) rank++;
  }
  return { rank, of };
}

/**
 * Indices of the k largest visible entries, descending.
 * @param {ArrayLike<number>} row NaN: hidden
 * @param {number} k
 * @returns {number[]}
 */
export function topOf(row, k) {
  const visible = [];
  for (let j = 0; j < row.length; j++) if (!Number.isNaN(row[j])) visible.push(j);
  return visible.sort((a, b) => row[b] - row[a] || a - b).slice(0, k);
}
