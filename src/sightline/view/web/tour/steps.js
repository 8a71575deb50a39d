import { element } from "../common/dom.js";
import { showCount } from "../common/format.js";
import { showReal } from "../common/real.js";
import { largestOf, nameOfScale, products, times, workedScore } from "../steps/arithmetic.js";
import { withoutValues } from "../steps/missing.js";
import { vectorStrip } from "../steps/strip.js";
import { tourEnding } from "./ending.js";
import { headHunt } from "./hunt.js";
import { addedValues, workedContext, workedRoot, workedShare } from "./numbers.js";
import { barList, inTurn, vectorCard, weightText, workedLine } from "./parts.js";

/**
 * What a step is about.
 * @typedef {object} TourWalk
 * @property {import("../explorer.js").Explorer} explorer
 * @property {import("../source/types.js").SectionInfo} section
 * @property {import("../source/types.js").LayerInfo} layer
 * @property {import("./place.js").TourPlace} place
 * @property {import("../source/types.js").Stages} stages
 * @property {import("./numbers.js").TourNumbers} numbers
 * @property {string} query its text
 * @property {(at: number) => string} key the text of one
 * @property {import("../source/tokens.js").TokenCache} tokens of the queries
 * @property {(query: number) => void} follow another word
 * @property {{own: () => void, ownText: string, explore: () => void, again: () => void}} after
 */

/**
 * A step: its name among the seven, a title, what it says, and its picture.
 * @typedef {{name: string, title: string, says: (walk: TourWalk) => (Node | string)[], picture: (walk: TourWalk) => (Node | string)[]}} TourStep
 */

const AROUND = 12; // tokens shown before and after the one that is followed

const word = (text) => element("strong", {}, text);
const quoted = (text) => `“${text}”`;

/** @type {TourStep[]} */
export const TOUR_STEPS = [
  {
    name: "tokens",
    title: "A text becomes tokens, and tokens become vectors",
    says: ({ query }) => [
      "A model cuts a text into ", word("tokens"), ": words, or pieces of words. Each becomes a ", word("vector"),
      ", a list of numbers, and layer by layer it is changed by what the tokens around it mean. That is what attention does. ",
      `We follow ${quoted(query)}; choose another word to follow that.`,
    ],
    picture: tokenChips,
  },
  {
    name: "query, key, value",
    title: "Every token asks, and every token answers",
    says: () => ["From its vector each token makes three more: a ", word("query"), ", what it looks for; a ", word("key"), ", what it has to offer; and a ", word("value"), ", what it hands over."],
    picture: threeVectors,
  },
  {
    name: "scores",
    title: "A score: how well a key answers the query",
    says: ({ query, numbers, key, stages, layer }) => {
      const name = nameOfScale(stages.scale, layer.width);
      const why = /√/.test(name) ? `divided by √${layer.width}, so that long vectors do not shout` : `multiplied by ${name}`;
      return [`The query of ${quoted(query)} and the key of ${quoted(key(numbers.best.key))} are multiplied number by number, and all products are added up. The sum is ${why}. That is the `, word("score"), ": large where both point the same way."];
    },
    picture: scorePicture,
  },
  {
    name: "weights",
    title: "Weights: scores become shares of one whole",
    says: ({ query, numbers, key }) => [
      "The softmax turns scores into ", word("weights"), ": none is below 0, and together they are 1. ",
      `${quoted(query)} gives ${quoted(key(numbers.best.key))} the weight ${weightText(numbers.best.weight)}: ${Math.round(100 * numbers.best.weight)} % of what it takes comes from there.`,
    ],
    picture: weightPicture,
  },
  {
    name: "context",
    title: "Context: the values, mixed by their weights",
    says: ({ query }) => [`Each value counts as much as its weight says, and all are added up. The sum is the `, word("context"), `: what ${quoted(query)} has learnt from the others.`],
    picture: contextPicture,
  },
  {
    name: "heads",
    title: "Many heads look at once, each in its own way",
    says: ({ layer, section }) => [
      `That was one `, word("head"), `. A layer of this model has ${layer.heads}, and each has its own queries, keys and values. A picture shows all weights of a head: a row for each word that looks, a column for each that is looked at. `,
      section.isSelf ? "Which head looks at the word before? Its picture is a line just below the diagonal." : "",
    ],
    picture: headHunt,
  },
  {
    name: "the answer",
    title: "Layer upon layer, and a word comes out",
    says: ({ section, query }) => [
      `The contexts of all heads are joined to a new vector of ${quoted(query)}. The next layer takes the new vectors and does it all again; here there ${section.layers.length === 1 ? "is one layer" : `are ${section.layers.length} layers`}. `,
      "What the last one gives becomes the answer.",
    ],
    picture: tourEnding,
  },
];

/** The tokens around the one that is followed; a click follows another. @param {TourWalk} walk */
function tokenChips({ tokens, place, layer, follow }) {
  const [from, to] = [Math.max(0, place.query - AROUND), Math.min(layer.n, place.query + AROUND + 1)];
  const chips = Array.from({ length: to - from }, (_, at) => {
    const token = from + at;
    const chip = element("button", { type: "button", class: "tour-token", "aria-pressed": String(token === place.query) }, tokens.text(token));
    chip.addEventListener("click", () => follow(token));
    return inTurn(chip, at);
  });
  const more = layer.n > to - from ? [element("p", { class: "quiet" }, `The text has ${showCount(layer.n)} tokens; these are around the one that is followed.`)] : [];
  return [element("div", { class: "tour-tokens", role: "group", "aria-label": "tokens; choose one to follow" }, ...chips), ...more];
}

/** @param {TourWalk} walk */
function threeVectors({ stages, numbers, query, key, explorer }) {
  const colours = explorer.differenceColours;
  const { best } = numbers;
  const name = key(best.key);
  const cards = [
    vectorCard("query", quoted(query), stages.queryVector, largestOf([stages.queryVector]), colours, "What am I looking for?"),
    vectorCard("key", quoted(name), best.vector, largestOf([best.vector]), colours, "What have I to offer?"),
  ];
  if (best.value) cards.push(vectorCard("value", quoted(name), best.value, largestOf([best.value]), colours, "What do I hand over?"));
  return [element("div", { class: "tour-cards" }, ...cards.map((card, at) => inTurn(card, 4 * at))), element("p", { class: "quiet" }, "Each cell of a strip is a number of the vector: red above 0, blue below.")];
}

/** @param {TourWalk} walk */
function scorePicture({ stages, numbers, query, key, explorer, layer }) {
  const { rows, best, hidden, spread } = numbers;
  const colours = explorer.differenceColours;
  const name = key(best.key);
  const product = products(stages.queryVector, best.vector);
  const line = (label, vector, turn) => inTurn(element("div", { class: "tour-line" }, element("span", {}, label), vectorStrip(vector, largestOf([vector]), colours, label)), turn);
  const lines = [
    line(`query of ${quoted(query)}`, stages.queryVector, 0),
    line(`× key of ${quoted(name)}`, best.vector, 3),
    line("= products", product, 6),
  ];
  const changed = best.masked !== best.scaled ? `; with what this model adds or cuts off: ${showReal(best.masked)}` : "";
  const bars = rows.map((row) => ({ key: key(row.key), share: Math.abs(row.masked) / spread, text: showReal(row.masked, 2), best: row === best, negative: row.masked < 0 }));
  const may = hidden > 0 ? [element("p", { class: "quiet" }, `${quoted(query)} may not look at ${showCount(hidden)} of ${showCount(layer.m)} tokens: they are left out.`)] : [];
  return [
    element("div", { class: "tour-lines" }, ...lines),
    workedLine(`${workedScore(stages.queryVector, best, 2)}, added up`),
    workedLine(`${workedRoot(stages, best, layer.width)}${changed}`),
    barList("scores of all keys", bars, {}),
    ...may,
  ];
}

/** @param {TourWalk} walk */
function weightPicture({ stages, numbers, key }) {
  const { rows, best, sum } = numbers;
  const bars = rows.map((row) => ({ key: key(row.key), before: showReal(row.masked, 2), share: row.weight, text: weightText(row.weight), best: row === best }));
  if (stages.rest.keys > 0) bars.push({ key: `${showCount(stages.rest.keys)} others`, before: "", share: stages.rest.weight, text: weightText(stages.rest.weight), best: false });
  if (stages.sink !== null) bars.push({ key: "sink (no token)", before: "", share: stages.sink, text: weightText(stages.sink), best: false });
  const list = barList("weights of all keys", bars, { before: "score", after: "weight", foot: ["together", showReal(sum, 2)] });
  return [workedLine(`${key(best.key)}: ${workedShare(stages, best)}`), list];
}

/** @param {TourWalk} walk */
function contextPicture({ stages, numbers, query, key, explorer }) {
  const { rows, best } = numbers;
  if (stages.context === null || rows.some(({ value }) => value === null)) return [withoutValues("The context")];
  const colours = explorer.differenceColours;
  const added = addedValues(rows);
  const most = largestOf([stages.context, ...added]);
  const lines = rows.map((row, at) => {
    const strip = vectorStrip(times(row.value, row.weight), most, colours, `${weightText(row.weight)} times the value of ${quoted(key(row.key))}`);
    const cells = [element("th", { scope: "row" }, key(row.key)), element("td", { class: "number" }, `${weightText(row.weight)} ×`), element("td", {}, strip)];
    return inTurn(element("tr", { class: row === best ? "best" : "" }, ...cells), at);
  });
  const sum = element("tr", {}, element("th", { scope: "row" }, `context of ${quoted(query)}`), element("td", { class: "number" }, "="), element("td", {}, vectorStrip(stages.context, most, colours, `context of ${query}`)));
  const table = element("table", { class: "tour-values" }, element("caption", { class: "visually-hidden" }, "values, each times its weight, and their sum"), element("tbody", {}, ...lines), element("tfoot", {}, inTurn(sum, rows.length)));
  return [table, workedLine(`its first number: ${workedContext(stages, rows)}`)];
}
