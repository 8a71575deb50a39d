import { element } from "../common/dom.js";
import { shareText } from "../page/answer.js";

const SHOWN = 8; // words, or labels

/**
 * The likeliest of both outcomes at one place: by the larger of their probabilities.
 * @param {[string, number][]} before
 * @param {[string, number][]} after
 * @returns {{text: string, before: number | null, after: number | null}[]} null: not among the likeliest
 */
export function bothOf(before, after) {
  const shares = [before, after].map((side) => new Map(side));
  const texts = [...new Set([...shares[0].keys(), ...shares[1].keys()])];
  const rows = texts.map((text) => ({ text, before: shares[0].get(text) ?? null, after: shares[1].get(text) ?? null }));
  const most = (row) => Math.max(row.before ?? 0, row.after ?? 0);
  return rows.sort((a, b) => most(b) - most(a)).slice(0, SHOWN);
}

/** Not among the likeliest, of which the last has this share. @param {number} least */
const shareBelow = (least) => (least < 0.001 ? shareText(1e-4) : `< ${shareText(least)}`);

/** What came out before and after, side by side. */
export class OutcomeTable {
  /** @param {(at: number) => string} nameOf the token at a position, behind which a word comes */
  constructor(nameOf) {
    this.nameOf = nameOf;
    this.box = element("div", { class: "whatif-outcome", hidden: true });
    this.texts = element("div", { class: "whatif-texts" });
    this.after = element("select", { id: "whatif-after" });
    this.after.addEventListener("change", () => this.draw());
    this.choose = element("label", {}, "next word after ", this.after);
    this.table = element("div", { class: "whatif-table" });
    this.box.append(this.texts, this.choose, this.table);
    /** @type {{before: import("../source/types.js").Outcome, after: import("../source/types.js").Outcome} | null} */
    this.outcome = null;
  }

  /** @param {{before: import("../source/types.js").Outcome, after: import("../source/types.js").Outcome} | null} outcome */
  show(outcome) {
    const kept = this.after.value;
    this.outcome = outcome;
    this.box.hidden = outcome === null;
    if (!outcome) return;
    const { before, after } = outcome;
    const text = (name, said, other) => element("figure", {}, element("figcaption", {}, name), element("p", { class: said === other ? "" : "changed" }, said === "" ? "(nothing)" : said));
    const wrote = before.text !== null && after.text !== null;
    this.texts.replaceChildren(...(wrote ? [text("before", before.text, before.text), text("after", after.text, before.text)] : []));
    const options = before.places.map((at, row) => element("option", { value: String(row) }, this.nameOf(at)));
    this.after.replaceChildren(...options);
    this.choose.hidden = options.length < 2;
    this.after.value = options.length && Number(kept) < options.length && kept !== "" ? kept : String(this.firstChanged(outcome));
    this.draw();
  }

  /** The place where the likeliest word is another one, else where it has changed most. */
  firstChanged({ before, after }) {
    const other = before.candidates.findIndex((each, row) => each[0]?.[0] !== after.candidates[row]?.[0]?.[0]);
    if (other >= 0) return other;
    const moved = before.candidates.map((each, row) => Math.abs((each[0]?.[1] ?? 0) - (after.candidates[row]?.[0]?.[1] ?? 0)));
    return Math.max(0, moved.indexOf(Math.max(...moved)));
  }

  /** Show the words behind a position, if there are such. @param {number | null} at */
  turnTo(at) {
    const row = this.outcome?.before.places.indexOf(at) ?? -1;
    if (row < 0) return;
    this.after.value = String(row);
    this.draw();
  }

  draw() {
    const { before, after } = this.outcome;
    const row = Number(this.after.value || 0);
    const rows = bothOf(before.candidates[row] ?? [], after.candidates[row] ?? []);
    const cell = (share, least, name) => {
      const bar = element("span", { class: `whatif-bar ${name}`, "aria-hidden": "true" });
      bar.style.width = `${100 * (share ?? 0)}%`;
      return element("td", {}, element("span", { class: "whatif-room" }, bar), element("span", { class: "whatif-share" }, share === null ? shareBelow(least) : shareText(share)));
    };
    const least = [before, after].map(({ candidates }) => candidates[row]?.at(-1)?.[1] ?? 0);
    const lines = rows.map((each) => element("tr", {}, element("th", { scope: "row" }, each.text.trim() || each.text), cell(each.before, least[0], "before"), cell(each.after, least[1], "after")));
    const head = element("tr", {}, element("th", { scope: "col" }, before.about || ""), element("th", { scope: "col" }, "before"), element("th", { scope: "col" }, "after"));
    this.table.replaceChildren(...(rows.length ? [element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines))] : [element("p", { class: "quiet" }, "This model has no head that gives words or labels: the map shows what changed.")]));
  }
}
