import { HIDDEN, weightsFromScores } from "./weights.js";

/** @typedef {import("./head.js").Head} Head */

/** Queries whose weights are computed together: each key is then read once for all of them. */
export const BLOCK = 4;

/**
 * Weights of a few queries for keys [from, to) into outs[r][0..to-from); HIDDEN where a query may not look.
 * @param {Head} head
 * @param {number[]} rows up to BLOCK queries
 * @param {number} from
 * @param {number} to
 * @param {Float64Array[]} outs one for each of BLOCK queries
 */
export function weightsOfRows(head, rows, from, to, outs) {
  const spans = rows.map((i) => spansOf(head, i, from, to));
  const [first, last, seen] = extent(spans);
  if (2 * seen >= last - first) scaledProducts(head, rows, first, last, from, outs);
  else rows.forEach((i, r) => spans[r].forEach(([lo, hi]) => scaledProducts(head, [i], lo, hi, from, [outs[r]])));
  rows.forEach((i, r) => {
    let done = from;
    for (const [lo, hi] of spans[r]) {
      outs[r].fill(HIDDEN, done - from, lo - from);
      weightsFromScores(head, i, lo, hi, from, outs[r]);
      done = hi;
    }
    outs[r].fill(HIDDEN, done - from, to - from);
  });
}

/** The runs of keys, rising, that the key ranges of query i leave in [from, to). */
function spansOf(head, i, from, to) {
  if (head.ranges === null) return [[from, to]];
  const runs = head.ranges.length / head.n;
  const spans = [];
  for (let at = i * runs; at < (i + 1) * runs; at += 2) {
    const lo = Math.max(from, head.ranges[at]);
    const hi = Math.min(to, head.ranges[at + 1]);
    if (lo < hi) spans.push([lo, hi]);
  }
  return spans;
}

/** Where the runs of all queries begin and end, and how many keys the first to the last of them see at most. */
function extent(spans) {
  let [first, last, seen] = [Infinity, 0, 0];
  for (const each of spans) {
    let sum = 0;
    for (const [lo, hi] of each) {
      first = Math.min(first, lo);
      last = Math.max(last, hi);
      sum += hi - lo;
    }
    seen = Math.max(seen, sum);
  }
  return [Math.min(first, last), last, seen];
}

/**
 * scale · q · k of up to four queries for keys [lo, hi), two keys at a time: eight sums, none of which waits for another.
 * Plain declarations, as this runs before it is optimised, too.
 * @param {{query: Float32Array, key: Float32Array, width: number, scale: number}} head
 * @param {number[]} rows up to BLOCK queries
 * @param {number} lo
 * @param {number} hi
 * @param {number} from the key of outs[r][0]
 * @param {Float64Array[]} outs one for each of the rows
 */
export function scaledProducts(head, rows, lo, hi, from, outs) {
  const { key, width } = head;
  const query = together(head, rows);
  const [o0, o1 = o0, o2 = o0, o3 = o0] = outs.slice(0, rows.length);
  const last = key.length - width;
  for (let j = lo; j < hi; j += 2) {
    const a = j * width;
    const b = Math.min(a + width, last); // behind the last key there is none: it is taken twice
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    let b0 = 0;
    let b1 = 0;
    let b2 = 0;
    let b3 = 0;
    for (let d = 0, u = 0; d < width; d++, u += BLOCK) {
      const k = key[a + d];
      const l = key[b + d];
      const q0 = query[u];
      const q1 = query[u + 1];
      const q2 = query[u + 2];
      const q3 = query[u + 3];
      a0 += q0 * k;
      a1 += q1 * k;
      a2 += q2 * k;
      a3 += q3 * k;
      b0 += q0 * l;
      b1 += q1 * l;
      b2 += q2 * l;
      b3 += q3 * l;
    }
    const at = j - from;
    // Queries that are not there write to the first one's place before it does.
    o3[at] = a3;
    o2[at] = a2;
    o1[at] = a1;
    o0[at] = a0;
    if (j + 1 === hi) return;
    o3[at + 1] = b3;
    o2[at + 1] = b2;
    o1[at + 1] = b1;
    o0[at + 1] = b0;
  }
}

/** [D,4]: the queries side by side, scaled; 0 for those that are not there. */
function together(head, rows) {
  const { width, scale } = head;
  const query = new Float64Array(width * BLOCK);
  rows.forEach((i, r) => {
    for (let d = 0; d < width; d++) query[d * BLOCK + r] = head.query[i * width + d] * scale;
  });
  return query;
}
