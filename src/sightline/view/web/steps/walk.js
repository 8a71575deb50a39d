import { element } from "../common/dom.js";
import { showCount } from "../common/format.js";
import { showReal } from "../common/real.js";
import { LOGITS } from "../common/stages.js";
import { largestOf, nameOfScale, products, stageBefore, sumOfWeights, times, workedBias, workedCap, workedScale, workedScore, workedWeight } from "./arithmetic.js";
import { headsStrip } from "./heads.js";
import { withoutValues } from "./missing.js";
import { vectorNumbers, vectorStrip } from "./strip.js";
import { footRow, keyTable } from "./table.js";

/**
 * What a walk-through is about.
 * @typedef {object} Walk
 * @property {import("../source/types.js").Stages} stages
 * @property {import("../source/types.js").StagesOfKey[]} rows
 * @property {import("../source/types.js").StagesOfKey} row the one that is worked out
 * @property {import("../source/types.js").LayerInfo} layer
 * @property {number} head
 * @property {boolean} isCausal
 * @property {boolean} isSelf
 * @property {string} query the token's name
 * @property {{name: (key: number) => string, pinned: number | null, onPin: (key: number) => void}} keys
 * @property {{rgb: Uint8ClampedArray}} colours diverging
 * @property {{css: (t: number) => string}} weightColours
 * @property {(head: number) => void} onHead
 */

/**
 * A step: its stage's name, what that is in plain words, its formula, what it does in a sentence or two, and its numbers.
 * @typedef {{name: string, plainly: string, formula: string, says: (walk: Walk) => string, show: (walk: Walk) => (Node | string)[]}} Step
 */

/** @type {Step[]} */
const STEPS = [
  {
    name: "query, key",
    plainly: "what is asked, and what answers",
    formula: "q = x · W_Q,  k = x · W_K",
    says: ({ query, layer, isSelf }) =>
      `${query} asks with a vector, its query. Each ${isSelf ? "token of the same text" : "token of the other text"} answers with a vector, its key. ` +
      `In this head both have ${layer.width} numbers. Red is above 0, blue below.`,
    show: showVectors,
  },
  {
    name: "scores",
    plainly: "how well query and key match",
    formula: "score = q · k = Σ_d q_d × k_d",
    says: () => "Query and key are compared, number by number: the products are added up. A score is large where both point the same way.",
    show: showScores,
  },
  {
    name: "scaled",
    plainly: "scores of a common size",
    formula: "scaled = score × scale",
    says: ({ stages, layer }) => {
      const name = nameOfScale(stages.scale, layer.width);
      const usual = /√/.test(name) ? ` Here d = ${layer.width}, and the scale is ${name} = ${showReal(stages.scale, 4)}.` : ` Here the scale is ${name}.`;
      return `Sums over more numbers grow larger, so scores are scaled, usually by 1/√d.${usual}`;
    },
    show: showScaled,
  },
  {
    name: "capped",
    plainly: "no score beyond a limit",
    formula: "capped = softcap × tanh(scaled / softcap)",
    says: ({ stages }) => `This model keeps every score between −${stages.softcap} and ${stages.softcap}: small ones stay almost as they are, large ones are flattened.`,
    show: showCapped,
  },
  {
    name: "biased",
    plainly: "where the two stand counts, too",
    formula: "biased = the score so far + bias",
    says: () => "This model adds a number that does not come from the vectors, usually from how far apart query and key are.",
    show: showBiased,
  },
  {
    name: "masked",
    plainly: "what may not be seen is taken out",
    formula: "masked = the score so far, or −∞ where the query may not look",
    says: ({ stages, layer, isCausal, query }) => {
      const why = isCausal ? "This model reads from left to right: a token may look at itself and at those before it, no further." : "";
      const all = stages.visible === layer.m ? "all" : showCount(stages.visible);
      return `${why} ${query} may look at ${all} of ${showCount(layer.m)} keys. What is hidden gets −∞, and so the weight 0.`.trim();
    },
    show: showMasked,
  },
  {
    name: "weights",
    plainly: "scores become shares of 1, by the softmax",
    formula: "weight = exp(masked) / Σ exp(masked) = exp(masked − lse),  lse = ln Σ exp(masked)",
    says: ({ stages }) => `The softmax turns scores into weights: none is below 0, and together they are 1. Here lse = ${showReal(stages.lse)}${stages.sink === null ? "" : ", with the sink's share in it"}.`,
    show: showWeights,
  },
  {
    name: "context",
    plainly: "the values, mixed by their weights",
    formula: "context = Σ_k weight_k × v_k",
    says: () => "Each key has a third vector, its value. The context is their sum, each value as strong as its weight: what the query takes from the text.",
    show: showContext,
  },
  {
    name: "heads",
    plainly: "all contexts side by side, then one output",
    formula: "output = concat(context_0 … context_H−1) · W_O",
    says: ({ layer }) => `All ${layer.heads} heads of the layer do this at once, each with its own queries, keys and values. Their contexts are concatenated and go through one output projection.`,
    show: (walk) => headsStrip(walk),
  },
];

/**
 * The steps of a head: without a stage before the softmax that it does not have.
 * @param {import("../source/types.js").Stages} stages
 * @returns {Step[]}
 */
export function walkOf({ stages }) {
  return STEPS.filter(({ name }) => !LOGITS.includes(name) || stages.includes(name));
}

/** @param {Walk} walk */
function showVectors({ stages, rows, keys, query, colours }) {
  const most = largestOf([stages.queryVector, ...rows.map((row) => row.vector)]);
  const asking = element("p", { class: "steps-vector" }, `query of ${query} `, vectorStrip(stages.queryVector, most, colours, `query of ${query}`));
  const cell = (row) => vectorStrip(row.vector, most, colours, `key of ${keys.name(row.key)}`);
  return [asking, vectorNumbers(stages.queryVector), keyTable({ name: "keys", rows, columns: [{ name: "its vector", cell, strip: true }], keys })];
}

/** @param {Walk} walk */
function showScores({ stages, rows, row, keys, colours }) {
  const { queryVector } = stages;
  const most = largestOf(rows.map(({ vector }) => products(queryVector, vector)));
  const columns = [
    { name: "q_d × k_d", cell: ({ key, vector }) => vectorStrip(products(queryVector, vector), most, colours, `products for ${keys.name(key)}`), strip: true },
    number("scores", ({ scores }) => scores),
  ];
  return [worked(keys.name(row.key), workedScore(queryVector, row)), keyTable({ name: "scores", rows, columns, keys })];
}

/** @param {Walk} walk */
function showScaled({ stages, rows, row, keys }) {
  return [worked(keys.name(row.key), workedScale(stages, row)), keyTable({ name: "scaled", rows, columns: fromBefore(stages, "scaled"), keys })];
}

/** @param {Walk} walk */
function showCapped({ stages, rows, row, keys }) {
  return [worked(keys.name(row.key), workedCap(stages, row)), keyTable({ name: "capped", rows, columns: fromBefore(stages, "capped"), keys })];
}

/** @param {Walk} walk */
function showBiased({ stages, rows, row, keys }) {
  const [before, biased] = fromBefore(stages, "biased");
  const bias = number("bias", (each) => each.biased - each[before.name]);
  return [worked(keys.name(row.key), workedBias(stages, row)), keyTable({ name: "biased", rows, columns: [before, bias, biased], keys })];
}

/** @param {Walk} walk */
function showMasked({ stages, rows, layer, keys }) {
  const hidden = layer.m - stages.visible;
  const foot = hidden > 0 ? [footRow(`${showCount(hidden)} hidden`, ["", "−∞"])] : [];
  return [keyTable({ name: "masked", rows, columns: fromBefore(stages, "masked"), keys, foot })];
}

/** @param {Walk} walk */
function showWeights({ stages, rows, row, keys, weightColours }) {
  const bar = ({ weight }) => {
    const made = element("span", { class: "steps-bar", "aria-hidden": "true" });
    made.style.width = `${Math.max(weight, 0) * 100}%`;
    made.style.background = weightColours.css(0.75);
    return made;
  };
  const columns = [number("masked", (each) => each.masked), number("weight", (each) => each.weight, 4), { name: "", cell: bar, strip: true }];
  const foot = [];
  if (stages.rest.keys > 0) foot.push(footRow(`and ${showCount(stages.rest.keys)} others: Σ`, ["", showReal(stages.rest.weight, 4), ""]));
  if (stages.sink !== null) foot.push(footRow("sink (no key)", ["", showReal(stages.sink, 4), ""]));
  foot.push(footRow("together: Σ", ["", showReal(sumOfWeights(stages), 4), ""]));
  return [worked(keys.name(row.key), workedWeight(stages, row)), keyTable({ name: "weights", rows, columns, keys, foot })];
}

/** @param {Walk} walk */
function showContext({ stages, rows, keys, query, colours }) {
  if (stages.context === null || rows.some(({ value }) => value === null)) {
    return [withoutValues("The context")];
  }
  const most = largestOf(rows.map(({ value }) => value));
  const weighted = rows.map(({ value, weight }) => times(value, weight));
  const mostOfSum = largestOf([stages.context, ...weighted]);
  const columns = [
    number("weight", (each) => each.weight, 4),
    { name: "value", cell: ({ key, value }) => vectorStrip(value, most, colours, `value of ${keys.name(key)}`), strip: true },
    { name: "weight × value", cell: ({ key, value, weight }) => vectorStrip(times(value, weight), mostOfSum, colours, `weighted value of ${keys.name(key)}`), strip: true },
  ];
  const sum = element("p", { class: "steps-vector" }, `context of ${query} `, vectorStrip(stages.context, mostOfSum, colours, `context of ${query}`));
  const others = stages.rest.keys > 0 ? [element("p", { class: "quiet" }, `The context is over all keys, the ${showCount(stages.rest.keys)} others too.`)] : [];
  return [keyTable({ name: "weighted values", rows, columns, keys }), sum, vectorNumbers(stages.context), ...others];
}

/** A stage's numbers beside those that they are made from. @param {import("../source/types.js").Stages} stages @param {string} name */
function fromBefore(stages, name) {
  return [stageBefore(stages, name), name].map((each) => number(each, (row) => row[each]));
}

/** A column of numbers. @returns {import("./table.js").KeyColumn} */
function number(name, read, decimals = 3) {
  return { name, cell: (row) => showReal(read(row), decimals) };
}

/** The sum for one key, written out. @param {string} key @param {string} text */
function worked(key, text) {
  return element("p", { class: "steps-worked" }, `${key}: ${text}`);
}
