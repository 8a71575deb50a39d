import { LOGITS } from "../common/stages.js";

/** @typedef {import("./head.js").Head} Head */

// What each stage of a score is, in one place. tests/stage_cases.json holds these rules to the definition.

/**
 * scores: q · k.
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

/** scaled: times the scale. @param {Head} head @param {number} score */
export function scaleScore(head, score) {
  return score * head.scale;
}

/** capped: softcap · tanh(x / softcap), if there is a softcap. @param {Head} head @param {number} scaled */
export function capScore({ softcap }, scaled) {
  return softcap === null ? scaled : softcap * Math.tanh(scaled / softcap);
}

/**
 * biased: plus the bias of the pair, if there is one.
 * @param {Head} head
 * @param {number} capped
 * @param {number} i query
 * @param {number} j key
 */
export function biasScore(head, capped, i, j) {
  let score = capped;
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
 * masked: -Infinity where query i may not look at key j.
 * @param {Head} head
 * @param {number} biased
 * @param {number} i
 * @param {number} j
 */
export function maskScore(head, biased, i, j) {
  return isInRanges(head, i, j) && isVisible(head, i, j) ? biased : -Infinity;
}

/** Which stages before the softmax a head has. @param {Head} head */
export function stagesOfHead(head) {
  const has = { capped: head.softcap !== null, biased: hasBias(head) };
  return LOGITS.filter((name) => has[name] ?? true);
}

/**
 * The score of a pair at each stage that the head has.
 * @param {Head} head
 * @param {number} i
 * @param {number} j
 * @returns {{scores: number, scaled: number, capped?: number, biased?: number, masked: number}}
 */
export function scoreStages(head, i, j) {
  const scores = dot(head.query, i * head.width, head.key, j * head.width, head.width);
  const scaled = scaleScore(head, scores);
  const capped = capScore(head, scaled);
  const biased = biasScore(head, capped, i, j);
  const masked = maskScore(head, biased, i, j);
  return { scores, scaled, ...(head.softcap === null ? {} : { capped }), ...(hasBias(head) ? { biased } : {}), masked };
}

/** Whether a scaled score is the biased one already. @param {Head} head */
export function isPlain(head) {
  return head.softcap === null && !hasBias(head);
}

/** @param {Head} head */
function hasBias({ bias, diagonals, slope, table }) {
  return bias !== null || diagonals !== null || slope !== 0 || table !== null;
}

/** Whether a dense mask, if there is one, leaves the key. @param {Head} head @param {number} i @param {number} j */
export function isVisible(head, i, j) {
  return head.visible === null || !!head.visible[broadcast(head.visibleShape, i, j)];
}

/** Whether the key ranges, if there are any, leave the key. @param {Head} head @param {number} i @param {number} j */
export function isInRanges(head, i, j) {
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
