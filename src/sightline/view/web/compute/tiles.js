import { blocksOfRows, rowReader } from "./rows.js";
import { HIDDEN } from "./weights.js";

const SIDE = 256; // cells along each side of a tile, as map/pyramid.js has it
const AT_ONCE = 2 ** 21; // weights; of a larger tile a quick picture takes a sample of the rows

/**
 * A tile of the pyramid.
 * @param {import("./head.js").Head[]} heads one, or all for their mean or maximum
 * @param {string} over "mean" or "max", for several heads
 * @param {{level: number, row: number, column: number}} tile
 * @param {{reduce: string, quick: boolean}} how
 * @param {(share: number) => Promise<void>} pause called after each few rows
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
  const cells = new TileCells(height, width, tile.level, reduce);
  const read = rowReader(heads, over, left, right);
  const blocks = blocksOfRows(sampledFrom(top, bottom, step), bottom, step);
  for (let at = 0; at < blocks.length; at++) {
    const rows = read(blocks[at]);
    blocks[at].forEach((i, r) => cells.take((i - top) >> tile.level, rows[r]));
    await pause((at + 1) / blocks.length);
  }
  return { values: cells.picture(), width, height, sampled: step > 1 };
}

/** The first of the rows that stand for `step` rows each: in the middle, but so that the last cells have one, too. */
function sampledFrom(top, bottom, step) {
  return top + Math.min(step >> 1, Math.max(0, (bottom - top - 1) % step));
}

/** Sums or maxima of the weights of each cell, and how many are visible. */
class TileCells {
  constructor(height, width, level, reduce) {
    this.width = width;
    this.level = level;
    this.mean = reduce === "mean";
    this.cells = new Float64Array(height * width);
    this.counts = new Int32Array(height * width);
  }

  /** Add a row to a line of cells. */
  take(line, row) {
    const { level, mean, cells, counts } = this;
    const first = line * this.width;
    for (let j = 0; j < row.length; j++) {
      const weight = row[j];
      if (weight === HIDDEN) continue;
      const at = first + (j >> level);
      counts[at] += 1;
      if (mean) cells[at] += weight;
      else if (weight > cells[at]) cells[at] = weight;
    }
  }

  /** NaN where nothing is visible. */
  picture() {
    const { counts, mean } = this;
    return Float32Array.from(this.cells, (value, at) => (counts[at] === 0 ? NaN : mean ? value / counts[at] : value));
  }
}
