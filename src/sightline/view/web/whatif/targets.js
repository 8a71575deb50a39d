/**
 * What can be changed, as the page's selection says it: an edge, a head, a layer, a token, a weight.
 * @typedef {import("../live/changes.js").Change} Change
 * @typedef {import("../text/merge.js").TokenRange} TokenRange
 */

const places = ({ from, to }) => Array.from({ length: to - from }, (_, at) => from + at);

/**
 * The head that is shown; all heads of the layer where the mean or maximum over them is.
 * @param {import("../subject.js").Subject} subject
 */
function headOf({ section, layerAt, head, single }) {
  return { section: section.name, layer: layerAt, head: single ? Number(head) : null };
}

/** @param {import("../subject.js").Subject} subject @param {TokenRange} query @param {TokenRange} key @returns {Change} */
export function edgeAway(subject, query, key) {
  return { kind: "block", ...headOf(subject), queries: places(query), keys: places(key) };
}

/** @param {import("../subject.js").Subject} subject @param {TokenRange} query @param {TokenRange} key @param {number} to @returns {Change} */
export function weightTo(subject, query, key, to) {
  return { kind: "set", ...headOf(subject), queries: places(query), keys: places(key), to };
}

/** @param {import("../subject.js").Subject} subject @param {number} [layer] @param {string} [head] @returns {Change} */
export function headAway(subject, layer = subject.layerAt, head = subject.head) {
  return { kind: "ablate", section: subject.section.name, layer, head: /^m/.test(head) ? null : Number(head), how: "zero" };
}

/** @param {import("../subject.js").Subject} subject @param {number} [layer] @returns {Change} */
export function layerAway(subject, layer = subject.layerAt) {
  return { kind: "ablate", section: subject.section.name, layer, head: null, how: "zero" };
}

/**
 * Nobody looks at a token: in all sections of which it is a key. Null where it is none.
 * @param {import("../source/types.js").About} about
 * @param {string} side the list that it belongs to
 * @param {TokenRange} token
 * @returns {Change | null}
 */
export function tokenAway({ sections }, side, token) {
  const section = sections.filter(({ keys }) => keys.id === side).map(({ name }) => name);
  return section.length ? { kind: "block", section, layer: null, head: null, queries: null, keys: places(token) } : null;
}

/** Whether two changes are about the same, whatever they make of it. @param {Change} a @param {Change} b */
export function areAlike(a, b) {
  const about = ({ kind, section, layer, head, queries, keys }) => JSON.stringify([kind, section, layer, head, queries, keys]);
  return about(a) === about(b);
}

/**
 * The list with one more change: a weight that was given before is given anew, and what is away already stays so.
 * @param {Change[]} list
 * @param {Change} change
 */
export function withChange(list, change) {
  const at = list.findIndex((each) => areAlike(each, change));
  return at < 0 ? [...list, change] : list.map((each, place) => (place === at ? change : each));
}

/**
 * A change in words.
 * @param {Change} change
 * @param {(section: string, side: "queries" | "keys", places: number[]) => string} textOf
 */
export function sentenceOf({ kind, section, layer, head, queries, keys, to }, textOf) {
  const [first] = [section].flat();
  const where = layer === null ? "everywhere" : `${first} ${layer}${head === null ? "" : ` · head ${head}`}`;
  if (kind === "ablate") return head === null ? `${where}: the whole layer away` : `${where} away`;
  const key = textOf(first, "keys", keys);
  if (queries === null) return `nobody looks at ${key}`;
  const edge = `${textOf(first, "queries", queries)} → ${key}`;
  return kind === "set" ? `${where}: ${edge} gets ${percent(to)}` : `${where}: ${edge} away`;
}

/** @param {number} share */
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
