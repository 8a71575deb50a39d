import { blocksOfRows, rowReader } from "../compute/rows.js";
import { HIDDEN } from "../compute/weights.js";
import { labelOf, Patterns } from "./patterns.js";

/** @typedef {import("../compute/head.js").Head} Head */

const SIDE = 24; // cells along each side of a head's picture in the atlas
const REPEATS = 2048; // repeated tokens are looked for in texts up to this length

/** The weights of a head, row by row; HIDDEN where a query may not look. @param {Head} head @param {(row: Float64Array, i: number) => void} take */
function eachRow(head, take) {
  const read = rowReader([head], "mean", 0, head.m);
  for (const rows of blocksOfRows(0, head.n)) {
    const weights = read(rows);
    rows.forEach((i, r) => take(weights[r], i));
  }
}

/** What each key gets from all queries together, [H,M]. @param {Head[]} heads */
export function receivedOf(heads) {
  const { m } = heads[0];
  const sums = new Float32Array(heads.length * m);
  heads.forEach((head, h) =>
    eachRow(head, (row) => {
      for (let j = 0; j < m; j++) if (row[j] !== HIDDEN) sums[h * m + j] += row[j];
    }),
  );
  return sums;
}

/**
 * Pictures of the heads for the atlas: means over the visible weights of each cell, NaN where there are none.
 * @param {Head[]} heads
 * @returns {import("../source/types.js").Thumbnails}
 */
export function thumbnailsOf(heads) {
  const { n, m } = heads[0];
  const [height, width] = [Math.min(n, SIDE), Math.min(m, SIDE)];
  const [lines, columns] = [cellsOf(n, height), cellsOf(m, width)];
  const size = height * width;
  const values = new Float32Array(heads.length * size);
  heads.forEach((head, h) => {
    const counts = new Int32Array(size);
    const sums = new Float64Array(size);
    eachRow(head, (row, i) => {
      for (let j = 0; j < m; j++) {
        if (row[j] === HIDDEN) continue;
        counts[lines[i] * width + columns[j]] += 1;
        sums[lines[i] * width + columns[j]] += row[j];
      }
    });
    for (let at = 0; at < size; at++) values[h * size + at] = counts[at] ? sums[at] / counts[at] : NaN;
  });
  return { values, heads: heads.length, height, width };
}

/** The cell of each of n places: cell c begins at ⌊c · n / cells⌋. */
function cellsOf(n, cells) {
  const out = new Int32Array(n);
  for (let cell = 0; cell < cells; cell++) out.fill(cell, Math.floor((cell * n) / cells), Math.floor(((cell + 1) * n) / cells));
  return out;
}

/**
 * Means over all rows of each head, and of self-attention what its heads do; see `view/report.py`.
 * @param {Head[]} heads
 * @param {string[] | null} texts of the keys, where queries and keys are the same tokens; null for cross-attention
 * @returns {import("../source/types.js").Numbers}
 */
export function numbersOf(heads, texts) {
  const { n, m } = heads[0];
  const measured = heads.map((head) => meansOf(head, texts !== null));
  const names = Object.keys(measured[0]);
  const numbers = Object.fromEntries(names.map((name) => [name, measured.map((each) => rounded(each[name]))]));
  let labels = heads.map(() => /** @type {string | null} */ (null));
  if (texts !== null && n > 1) {
    const tokens = m <= REPEATS ? texts : null;
    const patterns = heads.map((head) => new Patterns(head, tokens, (take) => eachRow(head, take)));
    labels = patterns.map((each) => labelOf(each.scores()));
    const induction = tokens ? patterns.map((each) => rounded(each.induction)) : [];
    if (induction.some((score) => score !== null)) numbers.induction = induction;
  }
  return { rows: n, of: n, sampled: false, heads: numbers, labels };
}

function meansOf(head, isSelf) {
  const { n, offset } = head;
  const sums = { entropy: 0, max: 0, first: 0 };
  const more = { distance: 0, itself: 0, previous: 0 };
  eachRow(head, (row, i) => {
    let most = 0;
    for (let j = 0; j < row.length; j++) {
      const weight = row[j];
      if (!(weight > 0)) continue;
      sums.entropy -= weight * Math.log(weight);
      more.distance += weight * Math.abs(i + offset - j);
      if (weight > most) most = weight;
    }
    sums.max += most;
    sums.first += Math.max(0, row[0]);
    if (i < row.length) more.itself += Math.max(0, row[i]);
    if (i > 0) more.previous += Math.max(0, row[i - 1]);
  });
  const mean = { entropy: sums.entropy / n, max: sums.max / n, first: sums.first / n };
  if (!isSelf) return mean;
  return { ...mean, distance: more.distance / n, itself: more.itself / n, previous: n > 1 ? more.previous / (n - 1) : 0 };
}

function rounded(value) {
  return Number.isNaN(value) ? null : Number(value.toPrecision(6));
}
