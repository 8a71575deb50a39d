import { showReal } from "../common/real.js";

/** @typedef {import("../source/types.js").Stages} Stages */
/** @typedef {import("../source/types.js").StagesOfKey} StagesOfKey */

/**
 * The rows of a walk-through: in the order of the text if every key is there, else the largest weights first.
 * @param {Stages} stages
 * @returns {StagesOfKey[]}
 */
export function rowsOfStages({ keys, rest }) {
  return [...keys].sort((a, b) => (rest.keys === 0 ? a.key - b.key : b.weight - a.weight || a.key - b.key));
}

/**
 * All weights of the row together, with the share that a sink takes: 1, as softmax has it.
 * @param {Stages} stages
 */
export function sumOfWeights({ keys, rest, sink }) {
  return keys.reduce((sum, { weight }) => sum + weight, 0) + rest.weight + (sink ?? 0);
}

/**
 * The scale in words: “1/√64” if it is the usual one, else the number.
 * @param {number} scale
 * @param {number} width
 */
export function nameOfScale(scale, width) {
  const isUsual = Math.abs(scale * Math.sqrt(width) - 1) < 1e-4;
  return isUsual ? `1/√${width}` : showReal(scale, 4);
}

/**
 * A score as a sum of products, its first terms written out.
 * @param {number[]} query
 * @param {StagesOfKey} row
 * @param {number} [terms]
 */
export function workedScore(query, { vector, scores }, terms = 3) {
  const factor = (value) => (value < 0 ? `(${showReal(value, 2)})` : showReal(value, 2));
  const written = query.slice(0, terms).map((value, at) => `${factor(value)} × ${factor(vector[at])}`);
  const more = query.length > terms ? ` + … (${query.length - terms} more)` : "";
  return `${written.join(" + ")}${more} = ${showReal(scores)}`;
}

/**
 * How a score was scaled.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 */
export function workedScale({ scale }, { scores, scaled }) {
  return `${showReal(scores)} × ${showReal(scale, 4)} = ${showReal(scaled)}`;
}

/**
 * How a scaled score was capped.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 */
export function workedCap({ softcap }, { scaled, capped }) {
  return `${softcap} × tanh(${showReal(scaled)} / ${softcap}) = ${showReal(capped)}`;
}

/**
 * What bias was added to the stage before.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 */
export function workedBias(stages, row) {
  const before = row[stageBefore(stages, "biased")];
  return `${showReal(before)} + bias ${showReal(row.biased - before)} = ${showReal(row.biased)}`;
}

/**
 * The stage from which another is made: the one before it, of those that there are.
 * @param {Stages} stages
 * @param {string} name
 */
export function stageBefore({ stages }, name) {
  return stages[stages.indexOf(name) - 1];
}

/**
 * How a score became a weight.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 */
export function workedWeight({ lse }, { masked, weight }) {
  const less = lse < 0 ? `(${showReal(lse)})` : showReal(lse);
  return `exp(${showReal(masked)} − ${less}) = ${showReal(weight, 4)}`;
}

/**
 * Each number of a vector times a factor.
 * @param {number[]} vector
 * @param {number} factor
 */
export function times(vector, factor) {
  return vector.map((value) => value * factor);
}

/**
 * Each number of a vector times the one in the same place of another.
 * @param {number[]} a
 * @param {number[]} b
 */
export function products(a, b) {
  return a.map((value, at) => value * b[at]);
}

/** The largest size of any number of these vectors; 1 where all are 0. @param {(number[] | null)[]} vectors */
export function largestOf(vectors) {
  let most = 0;
  for (const vector of vectors) for (const value of vector ?? []) most = Math.max(most, Math.abs(value));
  return most || 1;
}
