/** @typedef {import("../source/types.js").About} About */
/** @typedef {import("../source/types.js").SectionInfo} SectionInfo */
/** @typedef {import("../source/types.js").Numbers} Numbers */

/**
 * A query of one head, which the tour follows.
 * @typedef {{section: string, layer: number, head: number, query: number}} TourPlace
 */

const WHOLE = 256; // queries and keys that are looked through to find a telling one
const LAYERS = 12; // of so many layers a head is chosen

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
 * @returns {number | null} null where no word looks at another
 */
export function tellingQuery(weights, m, isSelf, { isWord, isKeyWord }) {
  /** @type {{query: number | null, weight: number}} */
  let best = { query: null, weight: 0 };
  for (let query = 0; query * m < weights.length; query++) {
    if (!isWord(query)) continue;
    for (let key = 0; key < m; key++) {
      const weight = weights[query * m + key];
      if (!(weight > best.weight) || !isKeyWord(key) || (isSelf && Math.abs(query - key) < 2)) continue;
      best = { query, weight };
    }
  }
  return best.query;
}

/**
 * Where the tour goes: the head and query that are chosen, else telling ones.
 * @param {import("../explorer.js").Explorer} explorer
 * @returns {Promise<TourPlace>}
 */
export async function findTourPlace(explorer) {
  const { subject, state, source } = explorer;
  const { about } = subject;
  const section = tourSection(about, subject.section.name);
  if (section === subject.section && subject.single && state.query !== null) {
    return { section: section.name, layer: subject.layerAt, head: Number(subject.head), query: state.query };
  }
  const shown = section.layers.slice(0, LAYERS);
  const { layer, head } = tellingHead(await Promise.all(shown.map(({ call }) => source.numbers(about.id, call))));
  const { call, n, m } = section.layers[layer];
  const [queries, keys] = [explorer.tokensOf(about, section.queries), explorer.tokensOf(about, section.keys)];
  await Promise.all([queries.ready(0, Math.min(n, WHOLE)), keys.ready(0, Math.min(m, WHOLE))]);
  const word = (tokens) => (at) => !tokens.special(at) && /[\p{L}\p{N}]/u.test(tokens.text(at));
  const last = Array.from({ length: Math.min(n, WHOLE) }, (_, at) => at).filter(word(queries)).pop() ?? 0;
  const place = { section: section.name, layer, head, query: last };
  if (n > WHOLE || m > WHOLE) return place;
  const { values } = await source.tile({ trace: about.id, call, head: String(head) }, { level: 0, row: 0, column: 0 }, { reduce: "mean", quick: false });
  return { ...place, query: tellingQuery(values, m, section.isSelf, { isWord: word(queries), isKeyWord: word(keys) }) ?? last };
}
