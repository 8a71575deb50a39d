import { meanRow, topOf } from "./rows.js";
import { scoreStages, stagesOfHead } from "./rules.js";

/** @typedef {import("./head.js").Head} Head */

/**
 * Every stage of one query, with the vectors, for its k largest weights.
 * @param {Head[]} heads all heads of the layer
 * @param {number} chosen
 * @param {number} i query
 * @param {number} k
 * @returns {import("../source/types.js").Stages}
 */
export function stagesOf(heads, chosen, i, k) {
  const head = heads[chosen];
  const row = meanRow([head], "mean", i, i + 1);
  const top = topOf(row, k);
  const visible = topOf(row, Infinity).length;
  const all = row.reduce((sum, weight) => sum + (weight || 0), 0);
  return {
    query: i,
    scale: head.scale,
    softcap: head.softcap,
    stages: stagesOfHead(head),
    lse: Number.isFinite(head.lse[i]) ? head.lse[i] : null,
    visible,
    sink: head.sink === -Infinity ? null : Math.exp(head.sink - head.lse[i]),
    queryVector: vectorAt(head.query, i, head.width),
    keys: top.map((j) => stagesOfKey(head, i, j, row[j])),
    rest: { keys: visible - top.length, weight: Math.max(0, top.reduce((rest, j) => rest - row[j], all)) },
    context: contextOf(head, row),
    heads: heads.map((each, at) => ({ head: at, context: contextOf(each, at === chosen ? row : meanRow([each], "mean", i, i + 1)) })),
  };
}

function stagesOfKey(head, i, j, weight) {
  return {
    key: j,
    weight,
    ...scoreStages(head, i, j),
    vector: vectorAt(head.key, j, head.width),
    value: head.value === null ? null : vectorAt(head.value, j, head.valueWidth),
  };
}

function vectorAt(vectors, at, width) {
  return Array.from(vectors.subarray(at * width, (at + 1) * width));
}

/** weights · value, over all keys. */
function contextOf(head, row) {
  const { value, valueWidth } = head;
  if (value === null) return null;
  const context = new Float64Array(valueWidth);
  for (let j = 0; j < row.length; j++) {
    if (!(row[j] > 0)) continue;
    for (let e = 0; e < valueWidth; e++) context[e] += row[j] * value[j * valueWidth + e];
  }
  return Array.from(context);
}
