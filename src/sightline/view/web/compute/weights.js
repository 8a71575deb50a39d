/** @typedef {import("./head.js").Head} Head */

/** What stands for a key that a query may not look at. Weights are never negative. */
export const HIDDEN = -1;

/**
 * query · key → scaled → capped → biased, without the mask.
 * @param {Head} head
 * @param {number} i query
 * @param {number} j key
 * @returns {number}
 */
export function biasedScore(head, i, j) {
  const score = head.scale * dot(head.query, i * head.width, head.key, j * head.width, head.width);
  return isPlain(head) ? score : cappedAndBiased(head, score, i, j);
}

/**
 * q · k.
 * @param {ArrayLike<number>} query
 * @param {number} a where the query begins
 * @param {ArrayLike<number>} key
 * @param {number} b where the key begins
 * @param {number} width
 */
export function dot(query, a, key, b, width) {
  let sum = 0;
  for (let d = 0; d < width; d++) sum += query[a + d] * key[b + d];
  return sum;
}

/** Whether the score is the scaled product and nothing else. */
function isPlain(head) {
  const { softcap, bias, diagonals, slope, table } = head;
  return softcap === null && bias === null && diagonals === null && slope === 0 && table === null;
}

function cappedAndBiased(head, scaled, i, j) {
  let score = scaled;
  if (head.softcap !== null) score = head.softcap * Math.tanh(score / head.softcap);
  if (head.bias !== null) score += head.bias[broadcast(head.biasShape, i, j)];
  if (head.diagonals !== null) score += head.diagonals[j - i + head.n - 1];
  if (head.slope !== 0) score -= head.slope * Math.abs(i + head.offset - j);
  if (head.table !== null) {
    const reach = (head.table.length - 1) / 2;
    score += head.table[Math.min(Math.max(j - i - head.offset, -reach), reach) + reach];
  }
  return score;
}

/**
 * The score of the stage `masked`: -Infinity where query i may not look at key j.
 * @param {Head} head
 * @param {number} i
 * @param {number} j
 * @returns {number}
 */
export function maskedScore(head, i, j) {
  return canSee(head, i, j) ? biasedScore(head, i, j) : -Infinity;
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
    const score = isVisible(head, i, j) ? cappedAndBiased(head, out[j - from], i, j) : -Infinity;
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
  for (let i = 0; i < head.n; i++) out[i] = inRanges(head, i, j) ? oneWeight(head, i, j) : HIDDEN;
}

/** exp(score - lse), within the ranges; HIDDEN where a dense mask or a bias of -Infinity hides it. */
function oneWeight(head, i, j) {
  if (!isVisible(head, i, j)) return HIDDEN;
  const score = biasedScore(head, i, j);
  return score === -Infinity ? HIDDEN : Math.exp(score - head.lse[i]);
}

function canSee(head, i, j) {
  return inRanges(head, i, j) && isVisible(head, i, j);
}

/** Whether a dense mask, if there is one, leaves the key. */
function isVisible(head, i, j) {
  return head.visible === null || !!head.visible[broadcast(head.visibleShape, i, j)];
}

function inRanges(head, i, j) {
  if (head.ranges === null) return true;
  const runs = head.ranges.length / head.n;
  for (let at = i * runs; at < (i + 1) * runs; at += 2) {
    if (j >= head.ranges[at] && j < head.ranges[at + 1]) return true;
  }
  return false;
}

function broadcast(shape, i, j) {
  return (shape[0] === 1 ? 0 : i) * shape[1] + (shape[1] === 1 ? 0 : j);
}
