import { biasScore, capScore, dot, isInRanges, isPlain, isVisible, maskScore, scaleScore } from "./rules.js";

/** @typedef {import("./head.js").Head} Head */

/** What stands for a key that a query may not look at. Weights are never negative. */
export const HIDDEN = -1;

/** query · key → scaled → capped → biased, without the mask. @param {Head} head @param {number} i @param {number} j */
function biasedScore(head, i, j) {
  const scaled = scaleScore(head, dot(head.query, i * head.width, head.key, j * head.width, head.width));
  return isPlain(head) ? scaled : biasScore(head, capScore(head, scaled), i, j);
}

/**
 * The score of the stage `masked`: -Infinity where query i may not look at key j.
 * @param {Head} head
 * @param {number} i
 * @param {number} j
 * @returns {number}
 */
export function maskedScore(head, i, j) {
  return maskScore(head, biasedScore(head, i, j), i, j);
}

/**
 * Scaled scores of query i for keys [lo, hi), in out[lo - from..hi - from), become weights in place; HIDDEN where a
 * dense mask or a bias of -Infinity hides the key. Key ranges are the caller's.
 * @param {Head} head
 * @param {number} i
 * @param {number} lo
 * @param {number} hi
 * @param {number} from
 * @param {Float64Array} out
 */
export function weightsFromScores(head, i, lo, hi, from, out) {
  const lse = head.lse[i];
  if (head.visible === null && isPlain(head)) {
    for (let at = lo - from; at < hi - from; at++) out[at] = Math.exp(out[at] - lse);
    return;
  }
  for (let j = lo; j < hi; j++) {
    const score = isVisible(head, i, j) ? biasScore(head, capScore(head, out[j - from]), i, j) : -Infinity;
    out[j - from] = score === -Infinity ? HIDDEN : Math.exp(score - lse);
  }
}

/**
 * Weights that key j gets from every query into out[0..N).
 * @param {Head} head
 * @param {number} j
 * @param {Float32Array | Float64Array} out
 */
export function weightsOfColumn(head, j, out) {
  for (let i = 0; i < head.n; i++) out[i] = isInRanges(head, i, j) ? oneWeight(head, i, j) : HIDDEN;
}

/** exp(score - lse), within the ranges; HIDDEN where a dense mask or a bias of -Infinity hides it. */
function oneWeight(head, i, j) {
  if (!isVisible(head, i, j)) return HIDDEN;
  const score = biasedScore(head, i, j);
  return score === -Infinity ? HIDDEN : Math.exp(score - head.lse[i]);
}
