import { element } from "../common/dom.js";
import { showReal } from "../common/real.js";
import { vectorStrip } from "../steps/strip.js";
import { firstNumbers } from "./numbers.js";

/**
 * Let something appear in its turn; where motion is unwanted it is there at once.
 * @template {HTMLElement} T
 * @param {T} made
 * @param {number} turn
 * @returns {T}
 */
export function inTurn(made, turn) {
  made.classList.add("tour-in");
  made.style.setProperty("--turn", String(turn));
  return made;
}

/**
 * A vector with its name, its strip and its first numbers.
 * @param {string} kind "query", "key", "value", "context"
 * @param {string} name
 * @param {number[]} vector
 * @param {number} most
 * @param {{rgb: Uint8ClampedArray}} colours
 * @param {string} [says]
 */
export function vectorCard(kind, name, vector, most, colours, says = "") {
  const title = element("p", { class: "tour-card-title" }, element("strong", {}, kind), ` of ${name}`);
  const numbers = element("p", { class: "tour-numbers" }, firstNumbers(vector), element("span", { class: "quiet" }, ` ${vector.length} numbers`));
  const parts = [title, vectorStrip(vector, most, colours, `${kind} of ${name}`), numbers];
  return element("div", { class: `tour-card tour-${kind}` }, ...(says ? [element("p", {}, says)] : []), ...parts);
}

/**
 * A list of keys, a bar and a number for each.
 * @param {string} caption
 * @param {{key: string, share: number, text: string, best: boolean, before?: string, negative?: boolean}[]} rows
 *   share: how much of the bar's room; before: what it was made from
 * @param {{name?: string, before?: string, after?: string, foot?: [string, string] | null}} more names of columns, and a last row
 */
export function barList(caption, rows, { name = "key", before = "", after = "score", foot = null }) {
  const cell = (text) => (before ? [element("td", { class: "number" }, text)] : []);
  const lines = rows.map((row, at) => {
    const bar = element("span", { class: `tour-bar${row.negative ? " negative" : ""}`, "aria-hidden": "true" });
    bar.style.width = `${Math.max(0.5, 100 * row.share)}%`;
    const cells = [element("th", { scope: "row" }, row.key), ...cell(row.before), element("td", { class: "tour-room" }, bar), element("td", { class: "number" }, row.text)];
    return inTurn(element("tr", { class: row.best ? "best" : "" }, ...cells), at);
  });
  const names = [element("th", { scope: "col" }, name), ...(before ? [element("th", { scope: "col", class: "number" }, before)] : []), element("td", {}), element("th", { scope: "col", class: "number" }, after)];
  const last = foot ? [element("tfoot", {}, element("tr", {}, element("th", { scope: "row" }, foot[0]), ...cell(""), element("td", {}), element("td", { class: "number" }, foot[1])))] : [];
  return element("table", { class: "tour-bars" }, element("caption", { class: "visually-hidden" }, caption), element("thead", {}, element("tr", {}, ...names)), element("tbody", {}, ...lines), ...last);
}

/** A sum, written out. @param {string} text */
export function workedLine(text) {
  return element("p", { class: "tour-worked" }, text);
}

/** A weight in words: 0.62, or what is less than a hundredth. @param {number} weight */
export function weightText(weight) {
  return weight > 0 && weight < 0.005 ? "< 0.01" : showReal(weight, 2);
}
