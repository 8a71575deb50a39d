/**
 * How the tokens of a word become one: keys are summed, queries averaged, so that a row of words still sums to 1.
 * @typedef {"sum" | "mean"} Merging
 *
 * Tokens [from, to).
 * @typedef {{from: number, to: number}} TokenRange
 */

/**
 * The weight of the tokens [from, to) as one; NaN where all of them are hidden.
 * @param {ArrayLike<number>} values
 * @param {number} from
 * @param {number} to
 * @param {Merging} how
 */
export function mergedWeight(values, from, to, how) {
  let sum = NaN;
  for (let at = from; at < to; at++) {
    if (!Number.isNaN(values[at])) sum = (Number.isNaN(sum) ? 0 : sum) + values[at];
  }
  return how === "mean" ? sum / (to - from) : sum;
}

/**
 * The places of the `count` largest values, hidden ones left out, ties in their order.
 * @param {ArrayLike<number>} values
 * @param {number} count
 * @returns {number[]}
 */
export function largestPlaces(values, count) {
  if (count <= 0) return [];
  /** @type {number[]} falling values */
  const best = [];
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (Number.isNaN(value) || (best.length === count && !(value > values[best[count - 1]]))) continue;
    let place = best.length;
    while (place > 0 && values[best[place - 1]] < value) place -= 1;
    best.splice(place, 0, at);
    if (best.length > count) best.pop();
  }
  return best;
}
