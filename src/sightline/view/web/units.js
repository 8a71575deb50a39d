import { HIDDEN, weightsOfColumn, weightsOfRow } from "./weights.js";

/**
 * Tokens, or tokens merged into words. Unit u is tokens starts[u] to starts[u + 1].
 * @typedef {object} Units
 * @property {number} count
 * @property {Int32Array} starts [count + 1]
 */

/**
 * Every token by itself.
 * @param {number} tokens
 * @returns {Units}
 */
export function tokenUnits(tokens) {
  return { count: tokens, starts: Int32Array.from({ length: tokens + 1 }, (_, i) => i) };
}

/**
 * Runs of tokens that have the same word number.
 * @param {ArrayLike<number>} words [tokens]
 * @returns {Units}
 */
export function wordUnits(words) {
  const starts = [];
  for (let i = 0; i < words.length; i++) if (i === 0 || words[i] !== words[i - 1]) starts.push(i);
  starts.push(words.length);
  return { count: starts.length - 1, starts: Int32Array.from(starts) };
}

/**
 * The unit that a token belongs to.
 * @param {Units} units
 * @param {number} token
 * @returns {number}
 */
export function unitOf(units, token) {
  let low = 0;
  let high = units.count - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (units.starts[middle] <= token) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Weights of query unit u for key units [from, to): summed over keys, averaged over queries, so that a
 * row still sums to 1. HIDDEN where no token of it may look at any token of the key.
 * @param {import("./head.js").Head} head
 * @param {Units} queries
 * @param {Units} keys
 * @param {number} u
 * @param {number} [from]
 * @param {number} [to]
 * @returns {Float64Array}
 */
export function unitRow(head, queries, keys, u, from = 0, to = keys.count) {
  const first = keys.starts[from];
  const last = keys.starts[to];
  const row = new Float64Array(last - first);
  if (queries.count === head.n && keys.count === head.m) {
    weightsOfRow(head, u, first, last, row);
    return row;
  }
  const merged = new Float64Array(to - from).fill(HIDDEN);
  const size = queries.starts[u + 1] - queries.starts[u];
  for (let i = queries.starts[u]; i < queries.starts[u + 1]; i++) {
    weightsOfRow(head, i, first, last, row);
    for (let v = from; v < to; v++) {
      for (let j = keys.starts[v]; j < keys.starts[v + 1]; j++) {
        if (row[j - first] === HIDDEN) continue;
        if (merged[v - from] === HIDDEN) merged[v - from] = 0;
        merged[v - from] += row[j - first] / size;
      }
    }
  }
  return merged;
}

/**
 * Weights that key unit v gets from every query unit.
 * @param {import("./head.js").Head} head
 * @param {Units} queries
 * @param {Units} keys
 * @param {number} v
 * @returns {Float64Array}
 */
export function unitColumn(head, queries, keys, v) {
  const column = new Float64Array(head.n);
  const merged = new Float64Array(queries.count).fill(HIDDEN);
  for (let j = keys.starts[v]; j < keys.starts[v + 1]; j++) {
    weightsOfColumn(head, j, column);
    for (let u = 0; u < queries.count; u++) {
      const size = queries.starts[u + 1] - queries.starts[u];
      for (let i = queries.starts[u]; i < queries.starts[u + 1]; i++) {
        if (column[i] === HIDDEN) continue;
        if (merged[u] === HIDDEN) merged[u] = 0;
        merged[u] += column[i] / size;
      }
    }
  }
  return merged;
}
