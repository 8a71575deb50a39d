import { scaleOf } from "../common/scale.js";

const BIG = 2 ** 26; // weights of a head: more take long to sum before anybody has asked

/**
 * What to shade by.
 * @typedef {object} ShadingWish
 * @property {string} show "weights", "received", "rollout" or "relevance"
 * @property {"to" | "from"} direction
 * @property {import("./merge.js").TokenRange | null} range the selected token or word
 */

/**
 * A number for each token of one side, and how the tokens of a word are merged.
 * @typedef {object} Shading
 * @property {Float32Array} values NaN: hidden
 * @property {"queries" | "keys"} side
 * @property {import("./merge.js").Merging} how
 * @property {boolean} received whether it is a mean over all queries
 * @property {string} name what its numbers are
 * @property {number | null} most where its colours end; null: where those of weights do
 */

/**
 * What can be shown of a section.
 * @param {import("../subject.js").Subject} subject
 * @param {string} show
 */
export function shownOf(subject, show) {
  if (show === "weights" || show === "received") return show;
  return subject.about.flows.some(({ name, section }) => name === show && section === subject.section.name) ? show : "weights";
}

/**
 * Whether there are numbers for a shading: a flow needs a selected token, and a long sum is not computed unasked.
 * @param {import("../subject.js").Subject} subject
 * @param {ShadingWish} wish
 */
export function canShade({ layer }, { show, range }) {
  return range !== null || show === "received" || (show === "weights" && layer.n * layer.m <= BIG);
}

/**
 * Ask for what a wish means.
 * @param {import("../subject.js").Subject} subject
 * @param {ShadingWish} wish
 * @param {AbortSignal} signal
 * @param {(share: number) => void} onProgress
 * @returns {Promise<Shading>}
 */
export async function shadingOf({ source, place, about, section }, { show, direction, range }, signal, onProgress) {
  if (show === "received" || range === null) {
    return { values: await source.received(place, signal), side: "keys", how: "sum", received: true, name: "mean weight", most: null };
  }
  const { from, to } = range;
  const [side, how] = direction === "to" ? /** @type {const} */ (["keys", "sum"]) : /** @type {const} */ (["queries", "mean"]);
  const ask = () => {
    if (show !== "weights") return source.flow(about.id, section.name, show, { direction, from, to, signal, onProgress });
    return direction === "to" ? source.row(place, from, to, signal) : source.column(place, from, to, signal);
  };
  const values = await ask();
  return { values, side, how, received: false, name: show === "weights" ? "weight" : show, most: show === "relevance" ? mostBeside(values, range) : null };
}

/**
 * From a number of a shading to [0, 1]: on the scale of all views, if it is one of weights.
 * @param {Shading | null} shading
 * @param {{scale: {of: (weight: number) => number}, state: {scale: string}}} explorer
 */
export function shadingScale(shading, { scale, state }) {
  return shading?.most ? scaleOf(state.scale, shading.values.length, shading.most).of : scale.of;
}

/**
 * The largest value outside of a range: relevance has no scale, and a token's own holds the 1 that it starts with.
 * @param {Float32Array} values
 * @param {import("./merge.js").TokenRange} range
 * @returns {number | null} null where there is nothing besides
 */
function mostBeside(values, { from, to }) {
  let most = 0;
  for (let at = 0; at < values.length; at++) if ((at < from || at >= to) && values[at] > most) most = values[at];
  return most || null;
}
