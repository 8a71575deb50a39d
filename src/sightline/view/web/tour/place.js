/** @typedef {import("../source/types.js").About} About */
/** @typedef {import("../source/types.js").SectionInfo} SectionInfo */
/** @typedef {import("../source/types.js").Numbers} Numbers */

/**
 * A query of one head, which the tour follows.
 * @typedef {{section: string, layer: number, head: number, query: number}} TourPlace
 */

const WHOLE = 256; // queries and keys that are looked through to find a telling one
const LAYERS = 12; // of so many layers a head is chosen by its numbers
const HEADS = 48; // so many are looked through
const SHORT = 64; // in a text of so many tokens

/**
 * The section that a tour is about: the one that is shown, if it looks at its own text, else the first that does.
 * @param {About} about
 * @param {string} shown
 * @returns {SectionInfo | null} null where there is no text to follow: patches, frames, places
 */
export function tourSection(about, shown) {
  if (about.medium) return null;
  const told = about.sections.filter(({ queries, keys }) => !queries.places && !keys.places);
  const own = told.filter(({ isSelf }) => isSelf);
  return own.find(({ name }) => name === shown) ?? own[0] ?? told.find(({ name }) => name === shown) ?? told[0] ?? null;
}

/**
 * The head that looks most decidedly at something else than the token itself, the one before, and the first.
 * @param {Numbers[]} layers
 * @returns {{layer: number, head: number}}
 */
export function tellingHead(layers) {
  let best = { layer: 0, head: 0, score: -Infinity };
  layers.forEach(({ heads }, layer) => {
    const of = (name, head) => heads[name]?.[head] ?? 0;
    for (let head = 0; head < (heads.max?.length ?? 0); head++) {
      const score = of("max", head) - of("itself", head) - of("previous", head) - of("first", head);
      if (score > best.score) best = { layer, head, score };
    }
  });
  return { layer: best.layer, head: best.head };
}

/**
 * The query of a head whose largest weight on a word elsewhere in the text is largest.
 * @param {Float32Array} weights [N * M]; NaN where hidden
 * @param {number} m
 * @param {boolean} isSelf
 * @param {{isWord: (query: number) => boolean, isKeyWord: (key: number) => boolean}} texts
 * @returns {{query: number, weight: number} | null} null where no word looks at another
 */
export function tellingQuery(weights, m, isSelf, { isWord, isKeyWord }) {
  /** @type {{query: number, weight: number} | null} */
  let best = null;
  for (let query = 0; query * m < weights.length; query++) {
    if (!isWord(query)) continue;
    for (let key = 0; key < m; key++) {
      const weight = weights[query * m + key];
      if (!(weight > (best?.weight ?? 0)) || !isKeyWord(key) || (isSelf && Math.abs(query - key) < 2)) continue;
      best = { query, weight };
    }
  }
  return best;
}

/**
 * Where the tour goes: the head and query that are chosen, else telling ones.
 * @param {import("../explorer.js").Explorer} explorer
 * @returns {Promise<TourPlace>}
 */
export async function findTourPlace(explorer) {
  const { subject, state } = explorer;
  const { about } = subject;
  const section = tourSection(about, subject.section.name);
  if (section === subject.section && subject.single && state.query !== null) {
    return { section: section.name, layer: subject.layerAt, head: Number(subject.head), query: state.query };
  }
  const { n } = section.layers[0];
  const queries = explorer.tokensOf(about, section.queries);
  await queries.ready(0, Math.min(n, WHOLE));
  const last = Array.from({ length: Math.min(n, WHOLE) }, (_, at) => at).filter(isWordOf(queries, n)).pop() ?? 0;
  const found = await Promise.all((await candidates(explorer, section)).map(async (head) => ({ ...head, ...(await findQuery(explorer, section, head)) })));
  const { layer, head, query = last } = found.reduce((best, each) => ((each.weight ?? -1) > (best.weight ?? -1) ? each : best));
  return { section: section.name, layer, head, query };
}

/**
 * The heads among which one is chosen: of a small model and a short text all, else the one whose numbers tell most.
 * @param {import("../explorer.js").Explorer} explorer
 * @param {SectionInfo} section
 * @returns {Promise<{layer: number, head: number}[]>}
 */
async function candidates({ source, subject }, { layers }) {
  const heads = layers.flatMap(({ heads: count }, layer) => Array.from({ length: count }, (_, head) => ({ layer, head })));
  if (heads.length <= HEADS && Math.max(layers[0].n, layers[0].m) <= SHORT) return heads;
  const numbers = layers.slice(0, LAYERS).map(({ call }) => source.numbers(subject.about.id, call));
  return [tellingHead(await Promise.all(numbers))];
}

/**
 * The telling query of a head, if the text is not too long to be looked through.
 * @param {import("../explorer.js").Explorer} explorer
 * @param {SectionInfo} section
 * @param {{layer: number, head: number}} at
 */
export async function findQuery(explorer, section, { layer, head }) {
  const { source, subject } = explorer;
  const { call, n, m } = section.layers[layer];
  if (n > WHOLE || m > WHOLE) return null;
  const [queries, keys] = [explorer.tokensOf(subject.about, section.queries), explorer.tokensOf(subject.about, section.keys)];
  await Promise.all([queries.ready(0, n), keys.ready(0, m)]);
  const { values } = await source.tile({ trace: subject.about.id, call, head: String(head) }, { level: 0, row: 0, column: 0 }, { reduce: "mean", quick: false });
  return tellingQuery(values, m, section.isSelf, { isWord: isWordOf(queries, n), isKeyWord: isWordOf(keys, m) });
}

/**
 * What is a word worth following: of three letters and not said again, as articles are, where the text has such.
 * @param {import("../source/tokens.js").TokenCache} tokens
 * @param {number} count
 * @returns {(at: number) => boolean}
 */
export function isWordOf(tokens, count) {
  const places = Array.from({ length: Math.min(count, WHOLE) }, (_, at) => at);
  const lower = (at) => tokens.text(at).toLowerCase();
  /** @type {Map<string, number>} */
  const times = new Map();
  for (const at of places) times.set(lower(at), (times.get(lower(at)) ?? 0) + 1);
  const of = (letters) => (at) => !tokens.special(at) && (tokens.text(at).match(/[\p{L}\p{N}]/gu)?.length ?? 0) >= letters;
  const once = (at) => of(3)(at) && times.get(lower(at)) === 1;
  return [once, of(3), of(2)].find((isWord) => places.filter(isWord).length > 1) ?? of(1);
}
