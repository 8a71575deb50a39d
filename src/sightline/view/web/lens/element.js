import { button, element } from "../common/dom.js";
import { showCount, showToken } from "../common/format.js";
import { showReal } from "../common/real.js";
import { shareText } from "../page/answer.js";
import { View } from "../view.js";
import { barsOf } from "./bars.js";
import { largestPart, partsOf, rowsOf, sumsOf } from "./rows.js";

const REST = 80; // milliseconds that the pointer rests before another position is asked for
const CAVEAT = "Read out as if each layer were the last (logit lens, nostalgebraist 2020): early layers need not write in the language of the output matrix. Bars are what is brought directly, not by way of later layers (Elhage et al. 2021).";

/** What the chosen token's vector says in words after each layer, and what each head brought to the word that comes out. */
class SightlineLens extends View {
  build() {
    this.setTitle("Lens");
    this.halves = false;
    /** @type {import("../source/types.js").Lens | null} */
    this.lens = null;
    /** @type {number | null} the position that the pointer left last */
    this.lastHovered = null;
    this.both = button("after attention, too", () => this.toggle(), { "aria-pressed": "false", title: "a line for each half of a layer" });
    this.tools.append(this.both);
    this.about = element("p", { class: "lens-about" });
    this.table = element("div", { class: "lens-table", tabindex: 0, role: "region", "aria-label": "words of each layer" });
    this.sum = element("p", { class: "lens-sum" });
    this.notes = element("p", { class: "quiet" });
    this.body.append(this.about, this.table, this.sum, this.notes);
  }

  /** @returns {import("../source/types.js").LensInfo | null} */
  get info() {
    return this.explorer.subject.about.lens ?? null;
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    this.hidden = this.info === null;
    if (this.hidden) return;
    if (has("trace", "section")) this.lastHovered = null;
    if (has("hover")) this.lastHovered = this.explorer.hovered?.query ?? this.lastHovered;
    if (has("subject", "query", "output")) void this.ask();
    else if (has("hover") && this.explorer.state.query === null) this.askSoon();
    else if (has("tokens", "colours")) this.draw();
  }

  /** Whether the section's queries are the positions whose words are known. */
  get isHere() {
    return this.info.sections.includes(this.explorer.subject.section.name);
  }

  /** The pinned query, else the one that the pointer is or was on. */
  get position() {
    const at = this.explorer.state.query ?? this.lastHovered;
    return this.isHere && at !== null && at < this.info.count ? at : null;
  }

  askSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.ask(), REST);
  }

  /** Fetch what is shown, if it is not here. */
  async ask() {
    clearTimeout(this.timer);
    const { explorer, position } = this;
    const { about, source } = explorer.subject;
    const wanted = position === null ? "" : JSON.stringify([about.id, position]);
    if (wanted === this.wanted && this.info === this.known && (this.lens || !wanted)) return this.draw();
    this.wanted = wanted;
    this.known = this.info;
    if (!wanted) {
      this.loading.get("")?.abort();
      this.lens = null;
      return this.draw();
    }
    const lens = await this.load((signal) => source.lens(about.id, position, signal), "The words");
    if (wanted !== this.wanted) return;
    this.lens = lens ?? null;
    this.draw();
  }

  draw() {
    const { lens, position } = this;
    const isReady = lens !== null && position !== null;
    for (const part of [this.both, this.table, this.sum, this.notes]) part.hidden = !isReady;
    this.both.hidden ||= this.info.stages.every(({ kind }) => kind === "layer" || kind === "embedding");
    this.setTitle(isReady ? `Lens · ${this.nameOf(position)}` : "Lens");
    if (!this.isHere) return this.offerSections();
    if (position === null) return void this.about.replaceChildren("Choose a word, and what its vector says after each layer is shown here.");
    if (isReady) this.drawTable(lens);
  }

  /** @param {import("../source/types.js").Lens} lens */
  drawTable(lens) {
    const { explorer, info } = this;
    const word = `“${lens.word.text}”`;
    const rows = rowsOf(info, lens, this.halves);
    const how = {
      info,
      word,
      most: largestPart(rows),
      colours: explorer.differenceColours,
      isShown: (place) => Object.keys(place).every((name) => place[name] === explorer.state[name]),
      onHead: (place) => void explorer.set(place),
    };
    const last = lens.stages[lens.stages.length - 1];
    const said = element("strong", {}, word);
    const end = info.reads === "words" ? "What comes out" : "At the end";
    this.about.replaceChildren(`What the vector of ${this.nameOf(lens.position)} says after each layer. ${end}: `, said, ` ${shareText(last.probability)}.`);
    const focused = this.table.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.part : undefined;
    this.table.replaceChildren(wordTable(rows, how, explorer.colours, lens.word.text));
    if (focused !== undefined) /** @type {HTMLElement | null} */ (this.table.querySelector(`[data-part="${focused}"]`))?.focus();
    const parts = partsOf(info, lens);
    this.sum.replaceChildren(...sumLine(word, lens.word.logit, parts));
    this.sum.hidden = parts.length === 0;
    this.notes.replaceChildren([...info.notes, CAVEAT].join(" "));
  }

  /** Words are known of other sections. */
  offerSections() {
    const { explorer, info } = this;
    const sections = explorer.subject.about.sections.filter(({ name }) => info.sections.includes(name));
    const offers = sections.map((section) => button(section.name, () => void explorer.set({ section: section.name, layer: Math.min(explorer.state.layer, section.layers.length - 1) })));
    this.about.replaceChildren(`${explorer.subject.section.name} writes no words. What vectors say in words is known of `, ...offers.flatMap((offer, at) => (at ? [" ", offer] : [offer])));
  }

  /** @param {number} at */
  nameOf(at) {
    const { queries } = this.explorer.subject;
    return queries.side.places ? `#${at}` : showToken(queries.text(at), at);
  }

  toggle() {
    this.halves = !this.halves;
    this.both.setAttribute("aria-pressed", String(this.halves));
    this.draw();
  }
}

/**
 * @param {import("./rows.js").LensRow[]} rows
 * @param {any} how of the bars
 * @param {import("../common/colour.js").ColourMap} colours of probabilities
 * @param {string} final the word that comes out
 */
function wordTable(rows, how, colours, final) {
  const hasParts = rows.some(({ parts }) => parts.length > 0);
  const titles = ["", `likeliest ${how.info.reads}`, how.word, ...(hasParts ? [`brought to ${how.word}`] : [])];
  // Narrow tables are drawn as blocks; the roles say that they are tables all the same.
  const head = element("tr", { role: "row" }, ...titles.map((title) => element("th", { scope: "col", role: "columnheader" }, title)));
  const lines = rows.map((row) => {
    const words = row.stage.words.map((word) => wordChip(word, colours, final));
    const cell = (name, ...children) => element("td", { class: name, role: "cell" }, ...children);
    const cells = [cell("lens-words", ...words), cell("lens-share", ...shareBar(row.stage))];
    if (hasParts) cells.push(cell("lens-brought", barsOf(row, how)));
    return element("tr", { role: "row" }, element("th", { scope: "row", role: "rowheader" }, row.name), ...cells);
  });
  const caption = element("caption", { class: "visually-hidden" }, "the likeliest words after each layer");
  return element("table", { role: "table" }, caption, element("thead", { role: "rowgroup" }, head), element("tbody", { role: "rowgroup" }, ...lines));
}

function wordChip({ text, probability }, colours, final) {
  const chip = element("span", { class: text === final ? "lens-word final" : "lens-word" }, text, " ", element("small", {}, shareText(probability)));
  chip.style.background = colours.css(Math.sqrt(probability));
  chip.style.color = colours.ink(Math.sqrt(probability));
  return chip;
}

function shareBar({ probability, rank }) {
  const bar = element("span", { class: "lens-part", "aria-hidden": "true" });
  bar.style.width = `${100 * probability}%`;
  return [element("span", { class: "lens-room" }, bar), `${shareText(probability)} · rank ${showCount(rank)}`];
}

/** The logit as a sum over kinds of parts. */
function sumLine(word, logit, parts) {
  const terms = sumsOf(parts).map(({ name, value }, at) => {
    const sign = value < 0 ? "−" : "+";
    return `${at ? ` ${sign} ${showReal(Math.abs(value))}` : ` ${showReal(value)}`} (${name})`;
  });
  return [`logit of ${word}: ${showReal(logit)} =${terms.join("")}`];
}

customElements.define("sightline-lens", SightlineLens);
