import { TILE } from "./pyramid.js";

/**
 * The cells of what a map shows: rows top to bottom and columns left to right of the matrix, each cell `cell`
 * weights large.
 * @typedef {{top: number, bottom: number, left: number, right: number, cell: number, width: number, height: number, values: Float32Array}} Cells
 */

/**
 * The exact cells in view at the level that is shown, whole tiles cut to the view.
 * @param {import("./canvas.js").MapCanvas} map
 * @param {(tile: any) => Promise<any>} tileOf waits for an exact tile
 * @returns {Promise<Cells>}
 */
export async function cellsInView(map, tileOf) {
  const tiles = map.inView;
  const cell = 2 ** tiles[0].level;
  const region = regionOf(map, cell);
  const values = new Float32Array(region.width * region.height).fill(NaN);
  for (const tile of tiles) copyTile(await tileOf(tile), tile, region, values);
  return { ...region, values };
}

function regionOf(map, cell) {
  const { n, m } = map.size;
  const { x, y, per } = map.shown;
  const { width, height } = map.plot;
  const down = (start) => Math.floor(Math.max(0, start) / cell) * cell;
  const up = (end, all) => Math.min(all, Math.ceil(end / cell) * cell);
  const [top, left] = [down(y), down(x)];
  const [bottom, right] = [up(y + height * per, n), up(x + width * per, m)];
  return { top, bottom, left, right, cell, width: Math.ceil((right - left) / cell), height: Math.ceil((bottom - top) / cell) };
}

/**
 * The part of a tile that lies in a region.
 * @param {{values: Float32Array, width: number, height: number}} picture
 * @param {{row: number, column: number}} tile
 * @param {{top: number, left: number, cell: number, width: number, height: number}} region
 * @param {Float32Array} values
 */
export function copyTile(picture, tile, region, values) {
  const [y0, x0] = [tile.row * TILE - region.top / region.cell, tile.column * TILE - region.left / region.cell];
  for (let r = Math.max(0, -y0); r < picture.height && y0 + r < region.height; r++) {
    for (let c = Math.max(0, -x0); c < picture.width && x0 + c < region.width; c++) {
      values[(y0 + r) * region.width + x0 + c] = picture.values[r * picture.width + c];
    }
  }
}

/**
 * How cells along one side are called: a token and its place, or a range of places.
 * @param {{text: (at: number) => string}} tokens
 * @param {number} from
 * @param {number} to
 * @param {number} cell
 * @returns {string[]}
 */
export function cellNames(tokens, from, to, cell) {
  const names = [];
  for (let at = from; at < to; at += cell) {
    names.push(cell === 1 ? `#${at} ${tokens.text(at)}`.trim() : `#${at}–${Math.min(to, at + cell) - 1}`);
  }
  return names;
}
