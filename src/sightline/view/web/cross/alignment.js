import { choice, element } from "../common/dom.js";
import { showCount, showToken, showWeight } from "../common/format.js";
import { hoverOf, pinOf } from "../text/pointing.js";
import { unitText } from "../text/unit.js";
import { ChipRow } from "./chips.js";
import { argmaxOf, middleOf, strongLinks } from "./links.js";
import { fitsInLine, ribbonPath, ribbonWidth } from "./ribbon.js";
import { unitsIn, windowAround } from "./window.js";

const WINDOW = 40; // tokens of each side
const SVG = "http://www.w3.org/2000/svg";
const THRESHOLDS = /** @type {[string, string][]} */ ([["0.02", "0.02"], ["0.05", "0.05"], ["0.1", "0.1"], ["0.3", "0.3"]]);

/** Target and source words with ribbons between those that are aligned. */
export class AlignmentFigure {
  /** @param {import("../view.js").View} view */
  constructor(view) {
    this.view = view;
    const { explorer } = view;
    const row = (title, role, tokens) => {
      return new ChipRow(title, {
        onHover: (at) => explorer.hover(at === null ? null : hoverOf(explorer.state, role, at)),
        onPin: (at) => explorer.pin(pinOf(explorer.state, role, explorer.range(tokens(), at), at)),
      });
    };
    this.targets = row("target words: queries", "queries", () => explorer.subject.queries);
    this.sources = row("source words: keys", "keys", () => explorer.subject.keys);
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("aria-hidden", "true");
    this.stage = element("div", { class: "alignment" }, this.targets.node, this.svg, this.sources.node);
    this.threshold = choice("ribbons from", THRESHOLDS, () => this.link(), { id: "ribbons" });
    this.threshold.select.value = "0.1";
    this.note = element("p", { class: "quiet" });
    this.list = element("ul");
    const list = element("details", {}, element("summary", {}, "as a list"), this.list);
    this.node = element("div", {}, this.threshold.label, this.stage, this.note, list);
    /** @type {Float32Array[]} */
    this.rows = [];
    /** @type {import("./links.js").Link[]} */
    this.links = [];
    /** @type {SVGPathElement[]} */
    this.ribbons = [];
    this.asked = "";
    this.asking = new AbortController();
    new ResizeObserver(() => this.draw()).observe(this.stage);
  }

  /** Show the words around what is pinned. */
  follow() {
    const { explorer } = this.view;
    const { subject, state } = explorer;
    const { n } = subject.layer;
    if (state.query === null || this.window === undefined || this.window.of !== subject.queries || state.query < this.window.from || state.query >= this.window.to) {
      this.window = { ...windowAround(state.query ?? 0, n, WINDOW), of: subject.queries };
    }
    void this.ask();
  }

  async ask() {
    const { explorer } = this.view;
    const { subject } = explorer;
    const { from, to } = this.window;
    await subject.queries.ready(from, to);
    const units = unitsIn(this.window, (at) => explorer.range(subject.queries, at));
    const asked = JSON.stringify([subject.place, units, explorer.state.words]);
    if (asked === this.asked) return;
    this.asked = asked;
    await this.view.load(async (signal, onProgress) => {
      let done = 0;
      const ask = async (unit) => {
        const row = await subject.source.row(subject.place, unit.from, unit.to, signal);
        onProgress(++done / units.length);
        return row;
      };
      const rows = await Promise.all(units.map(ask));
      const middle = explorer.state.key ?? middleOf(rows);
      const around = windowAround(middle, subject.layer.m, WINDOW);
      await subject.keys.ready(around.from, around.to);
      if (signal.aborted) return;
      this.rows = rows;
      this.targets.show(subject.queries, units);
      this.sources.show(subject.keys, unitsIn(around, (at) => explorer.range(subject.keys, at)));
      this.link();
    }, "aligned words", "rows").finally(() => {
      // What was stopped can be asked for again.
      if (this.rows.length === 0) this.asked = "";
    });
  }

  /** Find the links and say what is not shown. */
  link() {
    const { rows, sources, targets } = this;
    const { subject } = this.view.explorer;
    if (rows.length === 0) return;
    this.links = strongLinks(rows, sources.units, Number(this.threshold.select.value));
    const { layer, queries, keys } = subject;
    const part = (units, count) => (units.length && (units[0].from > 0 || units[units.length - 1].to < count) ? `tokens ${units[0].from}–${units[units.length - 1].to - 1} of ${showCount(count)}` : "");
    const parts = [part(targets.units, layer.n), part(sources.units, layer.m)];
    this.note.textContent = parts.some(Boolean) ? `Shown: target ${parts[0] || "whole"}, source ${parts[1] || "whole"}. Pin a token to move.` : "";
    const line = (best, place) => {
      const unit = targets.units[place];
      const target = showToken(unitText(queries, unit), unit.from);
      const text = best < 0 ? `${target}: may look at nothing` : `${target} → ${showToken(keys.text(best), best)}: ${showWeight(rows[place][best])}`;
      return element("li", {}, text);
    };
    this.list.replaceChildren(...argmaxOf(rows).map(line));
    this.draw();
  }

  /** Lay words and ribbons out. */
  draw() {
    const { targets, sources, stage, svg } = this;
    if (!stage.clientWidth || sources.chips.length === 0) return;
    const line = (row) => row.chips.map((chip) => chip.textContent);
    const beside = ![targets, sources].every((row) => fitsInLine(line(row), stage.clientWidth));
    stage.dataset.beside = String(beside);
    const base = stage.getBoundingClientRect();
    const boxes = (row) => row.chips.map((chip) => {
      const { left, top, width, height } = chip.getBoundingClientRect();
      return { left: left - base.left, top: top - base.top + stage.scrollTop, width, height };
    });
    const [from, to] = [boxes(targets), boxes(sources)];
    this.ribbons = this.links.map(({ target, source, weight }) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", ribbonPath(from[target], to[source], beside));
      path.setAttribute("stroke-width", String(ribbonWidth(weight)));
      path.style.setProperty("--strength", String(0.18 + 0.6 * Math.min(1, weight)));
      return path;
    });
    svg.replaceChildren(...this.ribbons);
    this.paint();
    this.reveal();
  }

  /** Bring the pinned word into sight, inside the box only. */
  reveal() {
    const { stage, targets } = this;
    const { query } = this.view.explorer.state;
    const chip = targets.chips[targets.units.findIndex(({ from, to }) => query !== null && from <= query && query < to)];
    if (chip && stage.scrollHeight > stage.clientHeight) stage.scrollTop = chip.offsetTop - stage.clientHeight / 2;
  }

  /** Colours and marks only: nothing is laid out. */
  paint() {
    const { explorer } = this.view;
    const { hovered, state } = explorer;
    const query = hovered ? hovered.query : state.query;
    const key = hovered ? hovered.key : state.key;
    this.targets.mark({ chosen: query, pinned: state.query });
    this.sources.mark({ chosen: key, pinned: state.key });
    const holds = (units, place, at) => at !== null && units[place].from <= at && at < units[place].to;
    const any = query !== null || key !== null;
    this.links.forEach(({ target, source }, place) => {
      const [isQuery, isKey] = [holds(this.targets.units, target, query), holds(this.sources.units, source, key)];
      const lit = query !== null && key !== null ? isQuery && isKey : isQuery || isKey;
      const near = isQuery || isKey;
      this.ribbons[place]?.setAttribute("class", !any ? "" : lit ? "lit" : near ? "near" : "dim");
    });
  }
}
