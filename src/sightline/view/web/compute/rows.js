import { BLOCK, weightsOfRows } from "./blocks.js";
import { HIDDEN, weightsOfColumn } from "./weights.js";

/** @typedef {import("./head.js").Head} Head */

/**
 * What gives the weights of up to BLOCK queries for keys [from, to): of one head, or the mean or maximum over several;
 * HIDDEN where no head may look. Its rows are overwritten by the next call.
 * @param {Head[]} heads
 * @param {string} over "mean" or "max", for several heads
 * @param {number} from
 * @param {number} to
 * @returns {(rows: number[]) => Float64Array[]}
 */
export function rowReader(heads, over, from, to) {
  const room = () => Array.from({ length: BLOCK }, () => new Float64Array(to - from));
  const [outs, scratch] = [room(), heads.length > 1 ? room() : []];
  return (rows) => {
    weightsOfRows(heads[0], rows, from, to, outs);
    for (const head of heads.slice(1)) {
      weightsOfRows(head, rows, from, to, scratch);
      for (let r = 0; r < rows.length; r++) join(outs[r], scratch[r], to - from, over);
    }
    if (over === "mean" && heads.length > 1) for (const out of outs) share(out, to - from, heads.length);
    return outs;
  };
}

/**
 * Rows from, from + step, ... below to, in blocks as rowReader takes them.
 * @param {number} from
 * @param {number} to
 * @param {number} [step]
 * @returns {number[][]}
 */
export function blocksOfRows(from, to, step = 1) {
  const blocks = [];
  for (let i = from; i < to; i += BLOCK * step) {
    blocks.push(Array.from({ length: Math.min(BLOCK, Math.ceil((to - i) / step)) }, (_, r) => i + r * step));
  }
  return blocks;
}

/** Add or raise `out` by `more`; what is hidden in one counts as 0 where the other may look. */
function join(out, more, count, over) {
  for (let j = 0; j < count; j++) {
    if (more[j] === HIDDEN) continue;
    if (out[j] === HIDDEN) out[j] = more[j];
    else out[j] = over === "max" ? Math.max(out[j], more[j]) : out[j] + more[j];
  }
}

function share(out, count, parts) {
  for (let j = 0; j < count; j++) if (out[j] !== HIDDEN) out[j] /= parts;
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
  const read = rowReader(heads, over, 0, m);
  const sum = new Float32Array(m).fill(NaN);
  for (const rows of blocksOfRows(from, to)) {
    const weights = read(rows);
    for (let r = 0; r < rows.length; r++) add(sum, weights[r], to - from);
  }
  return sum;
}

/** Add a row's share to `sum`; NaN stays where all rows are hidden. */
function add(sum, row, parts) {
  for (let j = 0; j < row.length; j++) if (row[j] !== HIDDEN) sum[j] = (Number.isNaN(sum[j]) ? 0 : sum[j]) + row[j] / parts;
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
    weightsOfColumn(heads[0], j, column);
    for (const head of heads.slice(1)) {
      weightsOfColumn(head, j, scratch);
      join(column, scratch, n, over);
    }
    if (over === "mean" && heads.length > 1) share(column, n, heads.length);
    add(sum, column, 1);
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
