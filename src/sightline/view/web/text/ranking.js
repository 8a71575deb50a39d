import { largestPlaces, mergedWeight } from "./merge.js";

const ALL = 16384; // up to so many tokens every word is weighed
const CANDIDATES = 512; // else only words that hold one of so many largest tokens

/**
 * The largest units and what is left.
 * @typedef {object} Ranking
 * @property {{from: number, to: number, weight: number}[]} top
 * @property {number} others how many visible tokens are in none of them
 * @property {number} rest their sum
 */

/**
 * Tokens that the units of a ranking can be made of: their texts have to be here before words are merged.
 * @param {Float32Array} values
 * @returns {number[]}
 */
export function rankingCandidates(values) {
  return values.length <= ALL ? Array.from(values.keys()) : largestPlaces(values, CANDIDATES);
}

/**
 * @param {Float32Array} values
 * @param {number[]} candidates rising or not
 * @param {(at: number) => import("./merge.js").TokenRange} rangeOf the unit of a token
 * @param {import("./merge.js").Merging} how
 * @param {number} count
 * @returns {Ranking}
 */
export function rankUnits(values, candidates, rangeOf, how, count) {
  /** @type {Map<number, import("./merge.js").TokenRange>} */
  const units = new Map();
  for (const at of candidates) {
    const unit = rangeOf(at);
    units.set(unit.from, unit);
  }
  const ranges = Array.from(units.values()).sort((a, b) => a.from - b.from);
  const weights = Float64Array.from(ranges, ({ from, to }) => mergedWeight(values, from, to, how));
  const top = largestPlaces(weights, count).map((place) => ({ ...ranges[place], weight: weights[place] }));
  let [others, rest] = [0, 0];
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    others += 1;
    rest += value;
  }
  for (const { from, to } of top) {
    for (let at = from; at < to; at++) {
      if (Number.isNaN(values[at])) continue;
      others -= 1;
      rest -= values[at];
    }
  }
  return { top, others, rest: Math.max(0, rest) };
}
