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
 * Whether there are numbers for a wish: a flow needs a selected token, and nobody waits for a long sum unasked.
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
    return { values: await source.received(place, signal), side: "keys", how: "sum", received: true, name: "mean weight" };
  }
  const { from, to } = range;
  const [side, how] = direction === "to" ? /** @type {const} */ (["keys", "sum"]) : /** @type {const} */ (["queries", "mean"]);
  const ask = () => {
    if (show !== "weights") return source.flow(about.id, section.name, show, { direction, from, to, signal, onProgress });
    return direction === "to" ? source.row(place, from, to, signal) : source.column(place, from, to, signal);
  };
  return { values: await ask(), side, how, received: false, name: show === "weights" ? "weight" : show };
}
