/**
 * One call of attention while the model runs.
 * @typedef {object} RunningCall
 * @property {"encoder" | "decoder" | "cross"} section
 * @property {number} layer its place among the section's layers
 * @property {number} heads
 * @property {number} groups key/value heads
 * @property {number} width of queries and keys, D
 *
 * What changes do in one call; each part may be missing. Positions count from 0 through the whole text; while text is
 * written, a row is one query, and all keys before it are there. Arrays are changed in place.
 * @typedef {object} CallChanges
 * @property {(vectors: {query: Float32Array, key: Float32Array, value: Float32Array}, queries: number[], keys: number[]) => void} [project]
 *   queries [R,H·D], keys and values [R',G·D] as they were projected, and their positions
 * @property {(head: number, query: number, scores: Float64Array) => void} [score] the row's masked scores [M], −∞ where hidden
 * @property {(contexts: Float32Array, queries: number[]) => void} [contexts] of all rows, [R,H·D]
 * @property {(head: number) => boolean} [averages] whether a head's context becomes the mean over the queries
 *
 * A change as plain data; null, or nothing, is all of them. interventions/written.py reads the same in Python.
 * @typedef {object} Change
 * @property {"block" | "scale" | "set" | "ablate"} kind
 * @property {string | string[] | null} [section]
 * @property {number | null} [layer] its place among the section's layers
 * @property {number | null} [head]
 * @property {number[] | null} [queries]
 * @property {number[] | null} [keys]
 * @property {number} [by] of "scale"
 * @property {number} [to] of "set"
 * @property {"zero" | "mean" | "uniform"} [how] of "ablate"
 */

/** The fields of each kind besides where it is. @type {Object<string, string[]>} */
const FIELDS = { block: ["queries", "keys"], scale: ["queries", "keys", "by"], set: ["queries", "keys", "to"], ablate: ["how"] };
const WHERE = ["kind", "section", "layer", "head"];
const HOWS = ["zero", "mean", "uniform"];
const MOST = 1 - 2 ** -53; // nearer to 1 these numbers cannot tell

/** What a reader wants changed in a run, in order; see `sightline.intervene` for what each means. */
export class Changes {
  /** @param {Change[]} [list] @throws for a change that is none */
  constructor(list = []) {
    list.forEach(checkChange);
    this.list = list;
  }

  /**
   * What acts on a call; null where nothing does.
   * @param {RunningCall} call
   * @returns {CallChanges | null}
   */
  of({ section, layer, width }) {
    const here = this.list.filter((change) => isAll(change.section, section) && isAll(change.layer, layer));
    if (here.length === 0) return null;
    const acts = here.map((change) => ({ change, act: ACTS[change.kind] }));
    const score = (head, query, scores) => {
      for (const { change, act } of acts) if (isAll(change.head, head) && isAll(change.queries, query)) act(scores, change);
    };
    // Contexts are what a mean is of: changes of weights come first, whatever the order.
    const means = here.findIndex((change) => change.kind === "ablate" && change.how === "mean");
    if (means < 0) return { score };
    return {
      score,
      contexts: (contexts, queries) => here.slice(means).forEach((change) => replaced(contexts, queries, width, change)),
      averages: (head) => here.some((change) => change.kind === "ablate" && change.how === "mean" && isAll(change.head, head)),
    };
  }
}

/** Whether a place is one of those that are meant. */
const isAll = (wanted, place) => wanted === null || wanted === undefined || (Array.isArray(wanted) ? wanted.includes(place) : wanted === place);

/**
 * What each kind does to a row's masked scores.
 * @type {Object<string, (scores: Float64Array, change: any) => void>}
 */
const ACTS = {
  block: (scores, { keys }) => each(scores, keys, () => -Infinity),
  scale: (scores, { keys, by }) => each(scores, keys, (score) => score + Math.log(by)),
  set: give,
  ablate: (scores, { how = "zero" }) => {
    if (how === "zero") scores.fill(-Infinity);
    if (how === "uniform") each(scores, null, (score) => (score === -Infinity ? score : 0));
  },
};

/** @param {Float64Array} scores @param {number[] | null | undefined} keys @param {(score: number) => number} make */
function each(scores, keys, make) {
  if (keys === null || keys === undefined) for (let j = 0; j < scores.length; j++) scores[j] = make(scores[j]);
  else for (const j of keys) if (j < scores.length) scores[j] = make(scores[j]);
}

/**
 * These keys together get `to` of the row's weight: both they and the others keep their proportions. A row that sees
 * none of them, or nothing else, stays as it is.
 * @param {Float64Array} scores
 * @param {Change} change
 */
function give(scores, { keys, to }) {
  if (to === 0) return each(scores, keys, () => -Infinity);
  const chosen = new Set(keys ?? scores.keys());
  const own = lseOf(scores, (j) => chosen.has(j));
  const others = lseOf(scores, (j) => !chosen.has(j));
  if (own === -Infinity || others === -Infinity) return;
  const share = Math.min(to, MOST);
  each(scores, keys, (score) => score + Math.log(share / (1 - share)) + others - own);
}

/** @param {Float64Array} scores @param {(j: number) => boolean} takes */
function lseOf(scores, takes) {
  let [most, sum] = [-Infinity, 0];
  for (let j = 0; j < scores.length; j++) if (takes(j)) most = Math.max(most, scores[j]);
  if (most === -Infinity) return most;
  for (let j = 0; j < scores.length; j++) if (takes(j)) sum += Math.exp(scores[j] - most);
  return most + Math.log(sum);
}

/**
 * A head's context becomes its mean over the queries, or 0 where that follows. Candidates of one text stand at the
 * same place, and are no queries of each other.
 * @param {Float32Array} contexts [R,H·D]
 * @param {number[]} queries
 * @param {number} width D
 * @param {Change} change
 */
function replaced(contexts, queries, width, { kind, how = "zero", head }) {
  if (kind !== "ablate" || how === "uniform") return;
  const [rows, row] = [queries.length, contexts.length / queries.length];
  if (how === "mean" && (rows === 1 || queries[0] === queries[rows - 1])) return;
  for (let c = 0; c < row; c++) {
    if (!isAll(head, Math.floor(c / width))) continue;
    let sum = 0;
    for (let r = 0; how === "mean" && r < rows; r++) sum += contexts[r * row + c];
    for (let r = 0; r < rows; r++) contexts[r * row + c] = sum / rows;
  }
}

/** @param {any} change @param {number} at */
function checkChange(change, at) {
  const name = `changes[${at}]`;
  const fields = FIELDS[change?.kind];
  if (!fields) throw new Error(`${name}: must be an object whose kind is one of ${Object.keys(FIELDS).join(", ")}.`);
  const unknown = Object.keys(change).find((field) => !WHERE.includes(field) && !fields.includes(field));
  if (unknown) throw new Error(`${name}.${unknown}: ${change.kind} knows no such field.`);
  for (const field of ["queries", "keys"]) {
    const places = change[field] ?? [0];
    const sound = Array.isArray(places) && places.length > 0 && places.every((place) => Number.isInteger(place) && place >= 0);
    if (!sound) throw new Error(`${name}.${field}: must be null or a list of integers from 0, got ${JSON.stringify(places)}.`);
  }
  if (change.kind === "scale" && !(change.by >= 0 && change.by <= 1e6)) throw new Error(`${name}.by: must be a number from 0 to 1e+06, got ${change.by}.`);
  if (change.kind === "set" && !(change.to >= 0 && change.to <= 1)) throw new Error(`${name}.to: must be a number from 0 to 1, got ${change.to}.`);
  if (!HOWS.includes(change.how ?? "zero")) throw new Error(`${name}.how: must be one of ${HOWS.join(", ")}, got ${change.how}.`);
}
