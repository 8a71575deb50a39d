import { element } from "../common/dom.js";
import { shareText } from "../page/answer.js";
import { barList } from "./parts.js";

/** @typedef {import("../source/types.js").About} About */

/**
 * The position whose word is told: of a text that goes on the last, of a written one that before the word which the page
 * shows first, since it writes that; else the one that the tour follows.
 * @param {About} about
 * @param {{section: string, query: number}} place
 */
export function wordPosition({ lens, output, start }, place) {
  const inside = (at) => Math.min(Math.max(at, 0), lens.count - 1);
  if (output?.kind === "next") return lens.count - 1;
  if (lens.sections.includes(place.section)) return inside(place.query);
  return lens.sections.includes(start.section) ? inside((start.query ?? 1) - 1) : 0;
}

/**
 * The likeliest word after the embedding and after each layer.
 * @param {import("../source/types.js").LensInfo} info
 * @param {import("../source/types.js").Lens} lens
 */
export function wordsByLayer(info, lens) {
  const ends = info.stages.map(({ layer }, at) => ({ layer, at })).filter(({ layer, at }) => at === info.stages.length - 1 || info.stages[at + 1].layer !== layer);
  return ends.map(({ layer, at }) => ({ name: layer === null ? "at first" : `after layer ${layer}`, ...lens.stages[at].words[0] }));
}

/**
 * What a vector says after each layer, where the page has the words.
 * @param {import("./steps.js").TourWalk} walk
 * @returns {HTMLElement}
 */
export function layerWords({ explorer, place }) {
  const { source, subject } = explorer;
  const { about } = subject;
  const box = element("div", { class: "tour-layers", hidden: true });
  if (about.lens?.reads !== "words") return box;
  const at = wordPosition(about, place);
  const section = about.sections.find(({ name }) => name === about.lens.sections[0]);
  const tokens = explorer.tokensOf(about, section.queries);
  void Promise.all([source.lens(about.id, at), tokens.ready(at, at + 1)]).then(([lens]) => {
    const words = wordsByLayer(about.lens, lens);
    const rows = words.map(({ name, text, probability }, row) => ({ key: name, before: text, share: probability, text: shareText(probability), best: row === words.length - 1 }));
    const says = `The vector at “${tokens.text(at)}”, read as the word that comes next:`;
    box.replaceChildren(element("p", {}, says), barList(says, rows, { name: "read", before: "word", after: "probability" }));
    box.hidden = false;
  }, () => {});
  return box;
}
