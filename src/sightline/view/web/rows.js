import { HIDDEN } from "./weights.js";

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
 * @param {ArrayLike<number>} row
 * @param {number} j
 * @returns {{rank: number, of: number}}
 */
export function rankIn(row, j) {
  let rank = 1;
  let of = 0;
  for (let i = 0; i < row.length; i++) {
    if (row[i] === HIDDEN) continue;
    of++;
    if (row[i] > row[j]) rank++;
  }
  return { rank, of };
}

/**
 * Indices of the k largest visible entries, descending.
 * @param {ArrayLike<number>} row
 * @param {number} k
 * @returns {number[]}
 */
export function topOf(row, k) {
  const visible = [];
  for (let j = 0; j < row.length; j++) if (row[j] !== HIDDEN) visible.push(j);
  return visible.sort((a, b) => row[b] - row[a] || a - b).slice(0, k);
}
