/** Cells along each side of a tile, the same in every data source. */
export const TILE = 256;

/**
 * What of the matrix the map shows: `x`, `y` are the key and query at the left upper corner, `per` is how many
 * weights one CSS pixel spans.
 * @typedef {{x: number, y: number, per: number}} MapRange
 */

/**
 * The level whose cells are about a pixel or larger: finer ones cost more than they show.
 * @param {number} per
 * @param {number} top
 */
export function levelOf(per, top) {
  return Math.min(top, Math.max(0, Math.ceil(Math.log2(per) - 0.3)));
}

/**
 * Tiles of a level that the view touches, those in the middle first.
 * @param {MapRange} view
 * @param {number} width CSS pixels
 * @param {number} height
 * @param {number} level
 * @param {number} n queries
 * @param {number} m keys
 * @returns {{level: number, row: number, column: number}[]}
 */
export function visibleTiles(view, width, height, level, n, m) {
  const side = TILE * 2 ** level;
  const clamp = (value, all) => Math.min(Math.max(0, Math.ceil(all / side) - 1), Math.max(0, Math.floor(value / side)));
  const tiles = [];
  const [bottom, right] = [view.y + height * view.per, view.x + width * view.per];
  if (bottom <= 0 || right <= 0 || view.y >= n || view.x >= m) return tiles;
  for (let row = clamp(view.y, n); row <= clamp(bottom - 1e-9, n); row++) {
    for (let column = clamp(view.x, m); column <= clamp(right - 1e-9, m); column++) tiles.push({ level, row, column });
  }
  const [cy, cx] = [(view.y + bottom) / 2 / side - 0.5, (view.x + right) / 2 / side - 0.5];
  const far = (tile) => (tile.row - cy) ** 2 + (tile.column - cx) ** 2;
  return tiles.sort((a, b) => far(a) - far(b));
}

/**
 * The tile of the next coarser level that covers a tile.
 * @param {{level: number, row: number, column: number}} tile
 */
export function parentOf(tile) {
  return { level: tile.level + 1, row: tile.row >> 1, column: tile.column >> 1 };
}

/**
 * The whole matrix in a canvas.
 * @param {number} width
 * @param {number} height
 * @param {number} n
 * @param {number} m
 * @returns {MapRange}
 */
export function wholeView(width, height, n, m) {
  const per = Math.max(n / height, m / width);
  return { x: (m - width * per) / 2, y: (n - height * per) / 2, per };
}

/**
 * Zoom by a factor (below 1: closer), keeping what is at pixel (px, py) where it is; kept inside the matrix.
 * @param {MapRange} view
 * @param {number} factor
 * @param {number} px
 * @param {number} py
 * @param {number} width
 * @param {number} height
 * @param {number} n
 * @param {number} m
 * @returns {MapRange}
 */
export function zoomedView(view, factor, px, py, width, height, n, m) {
  const most = wholeView(width, height, n, m).per;
  const per = Math.min(most, Math.max(Math.min(1 / 48, most), view.per * factor));
  return insideView({ x: view.x + px * (view.per - per), y: view.y + py * (view.per - per), per }, width, height, n, m);
}

/**
 * The nearest view that shows no more emptiness than it must.
 * @param {MapRange} view
 * @param {number} width
 * @param {number} height
 * @param {number} n
 * @param {number} m
 * @returns {MapRange}
 */
export function insideView(view, width, height, n, m) {
  const slide = (start, span, all) => (span >= all ? (all - span) / 2 : Math.min(Math.max(0, start), all - span));
  return { x: slide(view.x, width * view.per, m), y: slide(view.y, height * view.per, n), per: view.per };
}
