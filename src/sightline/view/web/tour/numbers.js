import { showReal } from "../common/real.js";
import { nameOfScale, rowsOfStages, sumOfWeights, times, workedScale, workedWeight } from "../steps/arithmetic.js";

/** @typedef {import("../source/types.js").Stages} Stages */
/** @typedef {import("../source/types.js").StagesOfKey} StagesOfKey */

const LARGE = 8; // logits beyond it make large exponentials

/**
 * The numbers of a tour through one query of one head.
 * @typedef {object} TourNumbers
 * @property {StagesOfKey[]} rows its keys, as they are told
 * @property {StagesOfKey} best the key with the largest weight
 * @property {number} sum of all weights, with those that are not told and a sink's
 * @property {number} hidden keys that it may not look at
 * @property {number} spread the largest size of a score, as the bars have it
 */

/**
 * @param {Stages} stages
 * @param {number} m keys of the layer
 * @returns {TourNumbers}
 */
export function tourNumbers(stages, m) {
  const rows = rowsOfStages(stages);
  const best = rows.reduce((most, row) => (row.weight > most.weight ? row : most), rows[0]);
  const spread = Math.max(1e-9, ...rows.map(({ masked }) => Math.abs(masked)));
  return { rows, best, sum: sumOfWeights(stages), hidden: m - stages.visible, spread };
}

/**
 * A vector's first numbers, written out.
 * @param {number[]} vector
 * @param {number} [terms]
 */
export function firstNumbers(vector, terms = 4) {
  const more = vector.length > terms ? ", …" : "";
  return `(${vector.slice(0, terms).map((value) => showReal(value, 2)).join(", ")}${more})`;
}

/**
 * How a sum of products became a score: by a root, where the scale is the usual one.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 * @param {number} width of queries and keys
 */
export function workedRoot(stages, row, width) {
  if (!/√/.test(nameOfScale(stages.scale, width))) return workedScale(stages, row);
  return `${showReal(row.scores)} / √${width} = ${showReal(row.scores)} / ${showReal(Math.sqrt(width))} = ${showReal(row.scaled)}`;
}

/**
 * How a score became a share of the whole; large ones less the logarithm of the sum, since exp would not end.
 * @param {Stages} stages
 * @param {StagesOfKey} row
 */
export function workedShare(stages, row) {
  if (Math.max(Math.abs(row.masked), Math.abs(stages.lse)) > LARGE) return workedWeight(stages, row);
  const [own, all] = [Math.exp(row.masked), Math.exp(stages.lse)];
  return `exp(${showReal(row.masked, 2)}) / Σ exp = ${showReal(own, 2)} / ${showReal(all, 2)} = ${showReal(row.weight, 2)}`;
}

/**
 * The first number of a context as the sum that it is, the largest weights first.
 * @param {Stages} stages
 * @param {StagesOfKey[]} rows
 * @param {number} [terms]
 */
export function workedContext(stages, rows, terms = 3) {
  const factor = (value) => (value < 0 ? `(${showReal(value, 2)})` : showReal(value, 2));
  const largest = [...rows].sort((a, b) => b.weight - a.weight).slice(0, terms);
  const written = largest.map(({ weight, value }) => `${showReal(weight, 2)} × ${factor(value[0])}`);
  const rest = rows.length - largest.length + stages.rest.keys;
  return `${written.join(" + ")}${rest > 0 ? ` + … (${rest} more)` : ""} = ${showReal(stages.context[0], 2)}`;
}

/** What each key adds to the context: its value, as much of it as its weight says. @param {StagesOfKey[]} rows */
export function addedValues(rows) {
  return rows.map(({ value, weight }) => times(value, weight));
}

/**
 * The head that looks most at the token before, of all layers.
 * @param {import("../source/types.js").Numbers[]} layers
 * @returns {{layer: number, head: number, weight: number} | null} null where that is not known
 */
export function previousHead(layers) {
  /** @type {{layer: number, head: number, weight: number} | null} */
  let best = null;
  layers.forEach(({ heads }, layer) => {
    (heads.previous ?? []).forEach((weight, head) => {
      if (weight !== null && (best === null || weight > best.weight)) best = { layer, head, weight };
    });
  });
  return best;
}
