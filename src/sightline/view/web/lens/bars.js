import { element } from "../common/dom.js";
import { showReal } from "../common/real.js";
import { placeOf } from "./rows.js";

/**
 * What each part of a layer brought, as bars up for more and down for less of the word's logit; heads are buttons.
 * @param {import("./rows.js").LensRow} row
 * @param {object} how
 * @param {import("../source/types.js").LensInfo} how.info
 * @param {number} how.most the magnitude of a full bar
 * @param {string} how.word
 * @param {import("../common/colour.js").ColourMap} how.colours
 * @param {(place: {section: string, layer: number, head: string}) => boolean} how.isShown
 * @param {(place: {section: string, layer: number, head: string}) => void} how.onHead
 * @returns {HTMLElement}
 */
export function barsOf(row, how) {
  /** @type {Map<string, Node[]>} */
  const groups = new Map();
  for (const part of row.parts) {
    const name = labelOf(part);
    groups.set(name, [...(groups.get(name) ?? []), barOf(part, how)]);
  }
  const ordered = [...groups].sort(([a], [b]) => Number(a === "bias") - Number(b === "bias"));
  const boxes = ordered.map(([name, bars]) => element("span", { class: "lens-group" }, element("span", { class: "lens-bars" }, ...bars), element("span", { class: "lens-label", "aria-hidden": "true" }, name)));
  return element("span", { class: "lens-groups", role: "group", "aria-label": `${row.name}: what it brought to ${how.word}` }, ...boxes);
}

const LABELS = { head: "heads", "cross head": "cross heads", "feed-forward": "ff", "output bias": "bias", "cross output bias": "bias" };

/** @param {import("../source/types.js").PartInfo} part */
function labelOf({ kind }) {
  return LABELS[kind] ?? kind;
}

/** @param {import("./rows.js").LensPart} part @param {any} how */
function barOf(part, { info, most, word, colours, isShown, onHead }) {
  const text = `${part.name}: ${part.value < 0 ? "" : "+"}${showReal(part.value)} to ${word}`;
  const fill = element("span", { class: part.value < 0 ? "lens-fill less" : "lens-fill" });
  fill.style.height = `${Math.max(2, (50 * Math.abs(part.value)) / most)}%`;
  fill.style.background = colours.css(part.value < 0 ? 0 : 1);
  const place = placeOf(info, part);
  if (!place) return element("span", { class: "lens-bar", title: text, role: "img", "aria-label": text }, fill);
  const pressed = isShown(place);
  const made = element("button", { type: "button", class: "lens-bar", title: text, "aria-label": text, "aria-pressed": String(pressed) }, fill);
  made.dataset.part = part.name;
  made.addEventListener("click", () => onHead(place));
  return made;
}
