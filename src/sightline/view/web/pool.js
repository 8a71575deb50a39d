import { unitRow } from "./units.js";
import { HIDDEN } from "./weights.js";

/**
 * A part of the matrix, in units, half open.
 * @typedef {{r0: number, r1: number, c0: number, c1: number}} Region
 */

/**
 * Rows that picture line y of `height` covers; lines tile the region without overlap.
 * @param {number} from
 * @param {number} to
 * @param {number} y
 * @param {number} height
 * @returns {[number, number]}
 */
export function tileOf(from, to, y, height) {
  const span = to - from;
  return [from + Math.floor((y * span) / height), from + Math.floor(((y + 1) * span) / height)];
}

/**
 * One line of an exact picture of a region: the mean or the largest visible weight of every cell.
 * HIDDEN where a cell is wholly hidden.
 * @param {import("./head.js").Head} head
 * @param {import("./units.js").Units} queries
 * @param {import("./units.js").Units} keys
 * @param {Region} region
 * @param {number} y
 * @param {number} height
 * @param {number} width
 * @param {"mean" | "max"} reduce
 * @returns {Float32Array}
 */
export function poolLine(head, queries, keys, region, y, height, width, reduce) {
  const sums = new Float64Array(width);
  const counts = new Int32Array(width);
  const [top, bottom] = tileOf(region.r0, region.r1, y, height);
  for (let u = top; u < bottom; u++) {
    const row = unitRow(head, queries, keys, u, region.c0, region.c1);
    for (let x = 0; x < width; x++) {
      const [left, right] = tileOf(0, row.length, x, width);
      for (let v = left; v < right; v++) {
        if (row[v] === HIDDEN) continue;
        counts[x]++;
        sums[x] = reduce === "max" ? Math.max(sums[x], row[v]) : sums[x] + row[v];
      }
    }
  }
  const divide = reduce === "mean";
  return Float32Array.from(sums, (sum, x) => (counts[x] === 0 ? HIDDEN : divide ? sum / counts[x] : sum));
}

/**
 * One line of a quick picture: each cell is the one weight in its middle. A first idea, not a readout.
 * @param {import("./head.js").Head} head
 * @param {import("./units.js").Units} queries
 * @param {import("./units.js").Units} keys
 * @param {Region} region
 * @param {number} y
 * @param {number} height
 * @param {number} width
 * @returns {Float32Array}
 */
export function sampleLine(head, queries, keys, region, y, height, width) {
  const middle = ([from, to]) => (from + to) >> 1;
  const u = middle(tileOf(region.r0, region.r1, y, height));
  return Float32Array.from({ length: width }, (_, x) => {
    const v = middle(tileOf(region.c0, region.c1, x, width));
    return unitRow(head, queries, keys, u, v, v + 1)[0];
  });
}
