import { byId, element, showWeight } from "./dom.js";
import { entropyOf } from "./rows.js";
import { HIDDEN } from "./weights.js";

const ROWS = 12;

/** The largest weights of the selection as a real table, for readers who cannot see shades. */
export class TableView {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.box = byId("table");
    this.title = byId("table-title");
  }

  paint() {
    const { app } = this;
    const { subject } = app;
    const { unit, direction } = app.selection();
    if (unit === null) {
      return this.show("Keys that get the most, per query on average", "key", subject.keys, subject.received(), true);
    }
    if (direction === "from") {
      const title = `Queries that look most at “${subject.keys.texts[unit]}” #${unit}`;
      return this.show(title, "query", subject.queries, subject.column(unit), false);
    }
    const row = subject.row(unit);
    const title = `Keys that “${subject.queries.texts[unit]}” #${unit} looks at most`;
    return this.show(title, "key", subject.keys, row, true, `row entropy ${entropyOf(row).toFixed(4)} nats`);
  }

  show(title, name, side, values, sums, remark = "") {
    const top = this.app.subject.top(values, ROWS);
    const head = element(
      "tr",
      {},
      ...["rank", name, "place", "weight"].map((text) => element("th", { scope: "col" }, text)),
    );
    const rows = top.map((v, rank) => this.line(rank + 1, side.texts[v], v, values[v]));
    this.title.textContent = title;
    this.box.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
    const visible = values.reduce((count, value) => count + (value === HIDDEN ? 0 : 1), 0);
    const whole = values.reduce((sum, value) => sum + (value === HIDDEN ? 0 : value), 0);
    const shown = top.reduce((sum, v) => sum + values[v], 0);
    const others = visible - top.length;
    const rest = others > 0 ? `and ${others} others${sums ? `: Σ ${showWeight(Math.max(0, whole - shown))}` : ""}` : "";
    byId("table-rest").textContent = [rest, remark].filter(Boolean).join(" · ");
  }

  line(rank, text, place, weight) {
    const { colours } = this.app;
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.round(Math.min(1, weight) * 100)}%`;
    bar.style.backgroundColor = colours.css(0.75);
    return element(
      "tr",
      {},
      element("td", {}, String(rank)),
      element("td", { class: "token" }, text),
      element("td", {}, `#${place}`),
      element("td", { class: "weight" }, bar, element("span", {}, showWeight(weight))),
    );
  }
}
