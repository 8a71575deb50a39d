const SAMPLE = 1 << 16; // values that a percentile is taken of, at most

/**
 * Where a fitted scale ends: the largest value in view, or a percentile of those that are visible and not 0.
 * @param {Float32Array[]} pictures
 * @param {string} ceiling "view" or a percentile
 * @returns {number | null} null while nothing is here
 */
export function ceilingOf(pictures, ceiling) {
  const all = pictures.reduce((sum, values) => sum + values.length, 0);
  const step = ceiling === "view" ? 1 : Math.max(1, Math.floor(all / SAMPLE));
  const sizes = [];
  let most = 0;
  for (const values of pictures) {
    for (let at = 0; at < values.length; at += step) {
      const size = Math.abs(values[at]);
      if (!(size > 0)) continue;
      if (size > most) most = size;
      if (ceiling !== "view") sizes.push(size);
    }
  }
  if (most === 0) return null;
  if (ceiling === "view") return most;
  sizes.sort((a, b) => a - b);
  return sizes[Math.min(sizes.length - 1, Math.floor((sizes.length * Number(ceiling)) / 100))];
}
