import { element } from "../common/dom.js";
import { clip } from "../common/format.js";

const LONG = 90; // characters, from which on letters are smaller
const SOURCE = 400;

/** What the model read and, larger than all else, what came out of it. */
export class Answer {
  /**
   * @param {HTMLElement} box
   * @param {HTMLElement} texts
   * @param {import("../explorer.js").Explorer} explorer
   */
  constructor(box, texts, explorer) {
    this.box = box;
    this.texts = texts;
    this.explorer = explorer;
  }

  /** @param {Set<string>} changed "output" where another came out of the same trace */
  update(changed) {
    if (changed.has("subject") || changed.has("output")) this.show({ ...this.explorer.subject.about, ...this.explorer.writing });
  }

  /** @param {import("./../source/types.js").About} about */
  show({ texts, output, medium }) {
    const drawn = JSON.stringify([texts, output]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    // A sound has no text but what was heard in it; a picture's has its label already.
    const read = medium && output ? "" : output?.after || texts[0] || "";
    const second = !output && texts[1] ? texts[1] : "";
    const parts = [read, second].filter(Boolean).map((text) => element("p", { class: "answer-source" }, clip(text, SOURCE)));
    if (output) parts.push(...outputParts(output));
    this.texts.replaceChildren(...parts);
    this.texts.dataset.kind = output?.kind ?? "";
    this.box.hidden = parts.length === 0 && !this.box.querySelector("#ask:not([hidden])");
  }
}

/**
 * @param {import("../source/types.js").Output} output
 * @returns {HTMLElement[]}
 */
function outputParts(output) {
  const { name, text, given, choices } = output;
  const large = element("p", { class: "answer-output", "data-long": String(text.length > LONG) }, text);
  const share = choices.length ? [element("span", { class: "answer-share" }, ` ${shareText(choices[0].probability)}`)] : [];
  large.append(...share);
  const line = element("p", { class: "answer-name" }, given ? `${name}, as it was given` : name);
  const head = element("div", {}, large, line);
  return [choices.length > 1 ? element("div", { class: "answer-row" }, head, choiceList(name, choices)) : head];
}

/** All choices with a bar for each. @param {string} name @param {{text: string, probability: number}[]} choices */
function choiceList(name, choices) {
  const items = choices.map(({ text, probability }) => {
    const bar = element("span", { class: "answer-bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(2, probability * 100)}%`;
    return element("li", {}, element("span", { class: "answer-choice" }, text), element("span", { class: "answer-room" }, bar), element("span", { class: "answer-percent" }, shareText(probability)));
  });
  return element("ol", { class: "answer-choices", "aria-label": `${name}: the likeliest` }, ...items);
}

/**
 * A probability in per cent.
 * @param {number} share
 */
export function shareText(share) {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent >= 99.95 && percent < 100 ? "> 99.9" : percent.toFixed(1)} %`;
}
