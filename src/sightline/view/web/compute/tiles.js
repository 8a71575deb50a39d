import { rowOverHeads } from "./rows.js";
import { HIDDEN } from "./weights.js";

const SIDE = 256; // cells along each side of a tile, as map/pyramid.js has it
const AT_ONCE = 2e6; // weights; of a larger tile a quick picture takes a sample of the rows

/**
 * A tile of the pyramid.
 * @param {import("./head.js").Head[]} heads one, or all for their mean or maximum
 * @param {string} over "mean" or "max", for several heads
 * @param {{level: number, row: number, column: number}} tile
 * @param {{reduce: string, quick: boolean}} how
 * @param {() => Promise<void>} pause called after each line of cells
 * @returns {Promise<{values: Float32Array, width: number, height: number, sampled: boolean}>}
 */
export async function tileOf(heads, over, tile, { reduce, quick }, pause) {
  const { n, m } = heads[0];
  const cell = 2 ** tile.level;
  const [top, left] = [tile.row * SIDE * cell, tile.column * SIDE * cell];
  const [bottom, right] = [Math.min(n, top + SIDE * cell), Math.min(m, left + SIDE * cell)];
  const [height, width] = [Math.ceil((bottom - top) / cell), Math.ceil((right - left) / cell)];
  const work = (bottom - top) * (right - left) * heads.length;
  const step = quick ? Math.min(cell, Math.max(1, 2 ** Math.ceil(Math.log2(work / AT_ONCE)))) : 1;
  const values = new Float32Array(height * width);
  const line = lineOfCells(heads, over, left, right, cell, reduce);
  for (let at = 0; at < height; at++) {
    const first = top + at * cell;
    const last = Math.min(bottom, first + cell);
    values.set(line(Math.min(last - 1, first + (step >> 1)), last, step), at * width);
    await pause();
  }
  return { values, width, height, sampled: step > 1 };
}

/** What computes a line of cells from rows first, first + step, ... below last: NaN where nothing is visible. */
function lineOfCells(heads, over, left, right, cell, reduce) {
  const width = Math.ceil((right - left) / cell);
  const [row, scratch] = [new Float32Array(right - left), new Float32Array(right - left)];
  const found = new Float64Array(width);
  const counts = new Int32Array(width);
  return (first, last, step) => {
    found.fill(0);
    counts.fill(0);
    for (let i = first; i < last; i += step) {
      rowOverHeads(heads, over, i, left, right, row, scratch);
      for (let j = 0; j < row.length; j++) {
        if (row[j] === HIDDEN) continue;
        const at = Math.floor(j / cell);
        counts[at] += 1;
        if (reduce === "mean") found[at] += row[j];
        else if (row[j] > found[at]) found[at] = row[j];
      }
    }
    return Float32Array.from(found, (value, at) => (counts[at] === 0 ? NaN : reduce === "mean" ? value / counts[at] : value));
  };
}
