/**
 * A box in CSS pixels.
 * @typedef {{left: number, top: number, width: number, height: number}} RibbonBox
 */

/**
 * The middle line of a ribbon, from the facing edge of one box to that of another: down from a target above its
 * source, or right from a target beside it.
 * @param {RibbonBox} target
 * @param {RibbonBox} source
 * @param {boolean} beside
 * @returns {string} an SVG path
 */
export function ribbonPath(target, source, beside) {
  if (beside) {
    const [x, y] = [target.left + target.width, target.top + target.height / 2];
    const [x1, y1] = [source.left, source.top + source.height / 2];
    return `M ${x} ${y} C ${(x + x1) / 2} ${y}, ${(x + x1) / 2} ${y1}, ${x1} ${y1}`;
  }
  const [x, y] = [target.left + target.width / 2, target.top + target.height];
  const [x1, y1] = [source.left + source.width / 2, source.top];
  return `M ${x} ${y} C ${x} ${(y + y1) / 2}, ${x1} ${(y + y1) / 2}, ${x1} ${y1}`;
}

/**
 * Its width in CSS pixels, in proportion to the weight, and at least a hairline.
 * @param {number} weight
 */
export function ribbonWidth(weight) {
  return Math.max(1, 12 * Math.min(1, weight));
}

/**
 * Whether words have room in one line above one another, judged by their letters.
 * @param {string[]} texts
 * @param {number} width CSS pixels
 */
export function fitsInLine(texts, width) {
  return texts.reduce((sum, text) => sum + 18 + 8 * Math.max(1, text.length), 0) <= width;
}
