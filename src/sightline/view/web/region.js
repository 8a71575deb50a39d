/** @typedef {import("./pool.js").Region} Region */

/**
 * The part of the matrix that is shown, kept inside it and never smaller than a few cells.
 * @param {Region | null} region
 * @param {number} rows
 * @param {number} cols
 * @returns {Region}
 */
export function within(region, rows, cols) {
  if (!region) return { r0: 0, r1: rows, c0: 0, c1: cols };
  const [r0, r1] = slide(region.r0, region.r1, rows);
  const [c0, c1] = slide(region.c0, region.c1, cols);
  return { r0, r1, c0, c1 };
}

/**
 * Zoom about a place: factor 0.5 shows half as much of each axis.
 * @param {Region} region
 * @param {number} factor
 * @param {number} rows
 * @param {number} cols
 * @param {number} y share of the height, 0 to 1, that stays where it is
 * @param {number} x
 * @returns {Region | null} null for the whole matrix
 */
export function zoomed(region, factor, rows, cols, y = 0.5, x = 0.5) {
  const scale = (from, to, all, share) => {
    const span = Math.max(Math.min(4, all), Math.min(all, Math.round((to - from) * factor)));
    const start = Math.round(from + (to - from) * share - span * share);
    return slide(start, start + span, all);
  };
  const [r0, r1] = scale(region.r0, region.r1, rows, y);
  const [c0, c1] = scale(region.c0, region.c1, cols, x);
  return r1 - r0 === rows && c1 - c0 === cols ? null : { r0, r1, c0, c1 };
}

/**
 * Move by a number of cells.
 * @param {Region} region
 * @param {number} down
 * @param {number} right
 * @param {number} rows
 * @param {number} cols
 * @returns {Region}
 */
export function moved(region, down, right, rows, cols) {
  const { r0, r1, c0, c1 } = region;
  return within({ r0: r0 + down, r1: r1 + down, c0: c0 + right, c1: c1 + right }, rows, cols);
}

function slide(from, to, all) {
  const span = Math.min(to - from, all);
  const start = Math.min(Math.max(0, from), all - span);
  return [start, start + span];
}
