/**
 * A window of at most `size` places around one, inside [0, count).
 * @param {number} at
 * @param {number} count
 * @param {number} size
 * @returns {import("../text/merge.js").TokenRange}
 */
export function windowAround(at, count, size) {
  const from = Math.max(0, Math.min(Math.round(at - size / 2), count - size));
  return { from, to: Math.min(count, from + size) };
}

/**
 * The units that begin in a window.
 * @param {import("../text/merge.js").TokenRange} window
 * @param {(at: number) => import("../text/merge.js").TokenRange} rangeOf
 * @returns {import("../text/merge.js").TokenRange[]}
 */
export function unitsIn({ from, to }, rangeOf) {
  const units = [];
  for (let at = from; at < to; ) {
    const unit = rangeOf(at);
    units.push(unit);
    at = Math.max(unit.to, at + 1);
  }
  return units;
}
