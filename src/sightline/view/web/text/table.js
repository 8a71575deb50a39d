import { button, element } from "../common/dom.js";
import { showCount, showWeight } from "../common/format.js";
import { unitText } from "./unit.js";

const ROWS = 12;

/**
 * The largest weights as a table. Its rows are made once and filled anew, so that nothing around it moves.
 */
export class RankingTable {
  /**
   * @param {{onHover: (at: number | null) => void, onPick: (at: number) => void}} host
   */
  constructor(host) {
    this.host = host;
    this.title = element("caption");
    this.side = element("th", { scope: "col" });
    this.value = element("th", { scope: "col" });
    const header = element("tr", {}, element("th", { scope: "col" }, "rank"), this.side, element("th", { scope: "col" }, "place"), this.value);
    this.rows = Array.from({ length: ROWS }, (_, at) => this.row(at));
    this.rest = element("p", { class: "quiet rest" });
    const table = element("table", { class: "ranking" }, this.title, element("thead", {}, header), element("tbody", {}, ...this.rows.map(({ line }) => line)));
    this.node = element("div", {}, table, this.rest);
  }

  row(rank) {
    /** @type {any} */
    const row = { at: null };
    row.token = button("", () => row.at !== null && this.host.onPick(row.at), { class: "link" });
    row.place = element("td");
    row.bar = element("span", { class: "bar", "aria-hidden": "true" });
    row.weight = element("span");
    const cells = [element("td", {}, String(rank + 1)), element("td", {}, row.token), row.place, element("td", { class: "weight" }, row.bar, row.weight)];
    row.line = element("tr", {}, ...cells);
    row.line.addEventListener("pointerenter", () => row.at !== null && this.host.onHover(row.at));
    row.line.addEventListener("pointerleave", () => this.host.onHover(null));
    row.line.addEventListener("click", (event) => event.target !== row.token && row.token.click());
    return row;
  }

  /** How many rows there can be for a side. @param {number} count */
  size(count) {
    this.rows.forEach(({ line }, at) => (line.hidden = at >= count));
    return Math.min(ROWS, count);
  }

  /**
   * @param {object} shown
   * @param {string} shown.title
   * @param {import("./shading.js").Shading | null} shown.shading
   * @param {import("./ranking.js").Ranking | null} shown.ranking
   * @param {import("../source/tokens.js").TokenCache} shown.tokens
   * @param {string} shown.colour of the bars
   */
  show({ title, shading, ranking, tokens, colour }) {
    this.title.textContent = title;
    this.title.title = title;
    this.side.textContent = shading?.side === "queries" ? "query" : "key";
    this.value.textContent = shading?.received ? "mean weight" : "weight";
    const most = Math.max(ranking?.top[0]?.weight ?? 0, 1e-30);
    this.rows.forEach((row, rank) => {
      const unit = ranking?.top[rank];
      row.at = unit ? unit.from : null;
      row.line.classList.toggle("none", !unit);
      row.token.disabled = !unit;
      row.token.textContent = unit ? unitText(tokens, unit).trim() || "␣" : " ";
      row.place.textContent = unit ? (unit.to - unit.from > 1 ? `#${unit.from}–${unit.to - 1}` : `#${unit.from}`) : "";
      row.weight.textContent = unit ? showWeight(unit.weight) : "";
      row.bar.style.width = `${unit ? Math.max(2, Math.round((100 * unit.weight) / most)) : 0}%`;
      row.bar.style.backgroundColor = colour;
    });
    this.rest.textContent = shading && ranking ? restOf(shading, ranking) : " ";
  }
}

/** What the rows leave out: keys share a sum of 1, queries do not. */
function restOf({ side }, { others, rest }) {
  if (others <= 0) return " ";
  const named = `and ${showCount(others)} ${others === 1 ? "other token" : "other tokens"}`;
  if (side === "keys") return `${named}: Σ ${showWeight(rest)}`;
  return `${named}: ${showWeight(rest / others)} on average`;
}
