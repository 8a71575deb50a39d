import { button, element } from "../common/dom.js";
import { shareText } from "../page/answer.js";
import { layerWords } from "./layers.js";
import { inTurn, weightText } from "./parts.js";
import { findQuery } from "./place.js";

/**
 * What came out, what was learnt, and where to go on.
 * @param {import("./steps.js").TourWalk} walk
 * @returns {Node[]}
 */
export function tourEnding(walk) {
  const { explorer, after } = walk;
  const { output } = explorer.subject.about;
  const learnt = [
    ["query", "what a token looks for"],
    ["key", "what a token has to offer"],
    ["weight", "how much of a key's value is taken: a share; all shares of a query are 1 together"],
  ].flatMap(([name, says]) => [element("dt", {}, name), element("dd", {}, says)]);
  const own = button(after.ownText, after.own, { class: "tour-own" });
  const buttons = [own, button("explore this page", after.explore, { class: "tour-explore" }), button("once more", after.again, {})];
  return [
    ...(output ? [inTurn(outputLine(output), 2)] : []),
    crossLine(explorer),
    layerWords(walk),
    element("dl", { class: "tour-learnt" }, ...learnt),
    element("div", { class: "tools" }, ...buttons),
  ];
}

/** @param {import("../source/types.js").Output} output */
function outputLine({ kind, name, text, choices, given }) {
  const large = element("p", { class: "tour-output" }, text, ...(choices.length ? [element("span", { class: "answer-share" }, ` ${shareText(choices[0].probability)}`)] : []));
  const how = kind === "text" && !given ? `the ${name}, written token by token, each of which looks at what is written so far and, in the same way, at the source` : `the ${name}${given ? ", as it was given" : ""}`;
  return element("div", {}, large, element("p", { class: "quiet" }, how));
}

/**
 * Of a model with a source and a target: what a word of the target looks at.
 * @param {import("../explorer.js").Explorer} explorer
 * @returns {HTMLElement}
 */
function crossLine(explorer) {
  const { about } = explorer.subject;
  const line = element("p", { class: "tour-cross", hidden: true });
  const section = about.sections.find(({ isSelf, queries, keys }) => !isSelf && !queries.places && !keys.places);
  if (section) void crossText(explorer, section).then((text) => {
    line.textContent = text;
    line.hidden = !text;
  }, () => {});
  return line;
}

/**
 * @param {import("../explorer.js").Explorer} explorer
 * @param {import("../source/types.js").SectionInfo} section
 */
async function crossText(explorer, section) {
  const { source, subject } = explorer;
  const { about } = subject;
  const suggested = section.name === about.start.section;
  const [layer, head] = suggested ? [about.start.layer, about.start.head] : [section.layers.length - 1, 0];
  const query = (suggested ? about.start.query : null) ?? (await findQuery(explorer, section, { layer, head }))?.query ?? null;
  if (query === null) return "";
  const [queries, keys] = [explorer.tokensOf(about, section.queries), explorer.tokensOf(about, section.keys)];
  const [best] = (await source.stages({ trace: about.id, call: section.layers[layer].call, head: String(head) }, query, 1)).keys;
  if (!best) return "";
  await Promise.all([queries.ready(query, query + 1), keys.ready(best.key, best.key + 1)]);
  return `At “${queries.text(query)}” one head looks at “${keys.text(best.key)}” of the source: weight ${weightText(best.weight)}.`;
}
