import { element } from "../common/dom.js";

/**
 * A column of a table of keys.
 * @typedef {{name: string, cell: (row: import("../source/types.js").StagesOfKey) => Node | string, strip?: boolean}} KeyColumn
 */

/**
 * A row for each key; a click on one pins its key.
 * @param {object} what
 * @param {string} what.name
 * @param {import("../source/types.js").StagesOfKey[]} what.rows
 * @param {KeyColumn[]} what.columns
 * @param {{name: (key: number) => string, pinned: number | null, onPin: (key: number) => void}} what.keys
 * @param {HTMLTableRowElement[]} [what.foot]
 * @returns {HTMLElement}
 */
export function keyTable({ name, rows, columns, keys, foot = [] }) {
  const head = element("tr", {}, element("th", { scope: "col" }, "key"), ...columns.map((column) => element("th", { scope: "col", class: kind(column) }, column.name)));
  const body = rows.map((row) => {
    const isPinned = row.key === keys.pinned;
    const pin = element("button", { type: "button", "aria-pressed": String(isPinned), "data-key": row.key }, keys.name(row.key));
    const cells = columns.map((column) => element("td", { class: kind(column) }, column.cell(row)));
    const line = element("tr", { class: isPinned ? "pinned" : "" }, element("th", { scope: "row" }, pin), ...cells);
    line.addEventListener("click", () => keys.onPin(row.key));
    return line;
  });
  const caption = element("caption", { class: "visually-hidden" }, name);
  const table = element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...body), element("tfoot", {}, ...foot));
  return element("div", { class: "steps-table", tabindex: 0, role: "region", "aria-label": name }, table);
}

/**
 * A last row: a name, and a text for each column.
 * @param {string} name
 * @param {string[]} texts
 * @returns {HTMLTableRowElement}
 */
export function footRow(name, texts) {
  return element("tr", {}, element("th", { scope: "row" }, name), ...texts.map((text) => element("td", { class: "number" }, text)));
}

/** @param {KeyColumn} column */
function kind(column) {
  return column.strip ? "strips" : "number";
}
