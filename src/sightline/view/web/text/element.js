import { choice, element } from "../common/dom.js";
import { showCount, showToken } from "../common/format.js";
import { View } from "../view.js";
import { largestPlaces } from "./merge.js";
import { TextPanel } from "./panel.js";
import { hoverOf, pinOf } from "./pointing.js";
import { rankingCandidates, rankUnits } from "./ranking.js";
import { Shader } from "./shader.js";
import { shadingScale, shownOf } from "./shading.js";
import { RankingTable } from "./table.js";
import { unitText } from "./unit.js";

const SHORT = 60; // tokens: room for larger letters
const SHOWS = [["weights", "weights"], ["received", "received"], ["rollout", "rollout"], ["relevance", "relevance"]];
const NO_RELEVANCE = "Relevance to an output would need gradients, which this trace does not carry: sightline.trace(…, gradients=True) keeps them.";

/** The text itself, shaded by what the selected token attends to or by what attends to it. */
class SightlineText extends View {
  build() {
    const { explorer } = this;
    const set = (name) => (value) => void explorer.set({ [name]: value });
    this.show = choice("shade by", /** @type {[string, string][]} */ (SHOWS), set("show"), { id: "show" });
    const directions = /** @type {[string, string][]} */ ([["to", "what it attends to"], ["from", "what attends to it"]]);
    this.direction = choice("of a token", directions, set("direction"), { id: "direction" });
    this.tools.append(this.show.label, this.direction.label);
    this.caveat = element("p", { class: "quiet", hidden: true });
    this.hint = element("p", { class: "quiet hint-line" });
    this.panelsBox = element("div", { class: "panels" });
    this.table = new RankingTable({ onHover: (at) => this.hoverRow(at), onPick: (at) => this.pickRow(at) });
    this.body.append(this.caveat, this.hint, this.panelsBox, this.table.node);
    /** @type {TextPanel[]} */
    this.panels = [];
    /** @type {TextPanel | null} the text that this one is compared with */
    this.versusPanel = null;
    this.laid = "";
    /** @type {import("./shading.js").Shading | null} */
    this.shading = null;
    /** @type {import("./shading.js").Shading | null} */
    this.versusShading = null;
    this.shader = new Shader(this, "shade", (shading) => this.take(shading));
    this.versusShader = new Shader(this, "versus", (shading) => {
      this.versusShading = shading;
      this.paintVersus();
    });
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    const fresh = has("subject", "compared") && this.lay();
    if (has("subject", "show", "direction")) this.describe();
    if (has("subject", "compared", "hover", "query", "key", "direction", "show", "words", "tokens")) this.follow();
    if (has("words", "colours", "scale", "ceiling", "tokens")) this.paint();
    if (fresh || has("query", "key", "full")) this.reveal();
  }

  /** Make panels for what is shown; what is there already stays. @returns {boolean} whether they are new */
  lay() {
    const { subject, versus } = this.explorer;
    const other = versus && textName(versus) !== textName(subject) ? versus : null;
    const laid = JSON.stringify([textName(subject), other && textName(other)]);
    if (laid === this.laid) return false;
    this.laid = laid;
    for (const panel of this.all) panel.close();
    const { section, keys, queries } = subject;
    this.panels = section.isSelf
      ? [this.panel(keys, "both", "")]
      : [this.panel(queries, "queries", "Target: queries"), this.panel(keys, "keys", "Source: keys")];
    this.versusPanel = other ? this.panel(other.keys, "keys", `Compared: ${other.about.title} · ${other.section.name}`) : null;
    this.panelsBox.dataset.short = String(queries.side.count + keys.side.count < SHORT);
    this.panelsBox.replaceChildren(...this.all.map((panel) => panel.node));
    for (const panel of this.all) panel.open();
    this.shading = this.versusShading = null;
    this.shader.forget();
    this.versusShader.forget();
    return true;
  }

  get all() {
    return this.versusPanel ? [...this.panels, this.versusPanel] : this.panels;
  }

  panel(tokens, role, title) {
    const { explorer } = this;
    const host = {
      rangeOf: (at) => explorer.range(tokens, at),
      onHover: (at) => explorer.hover(at === null ? null : this.inside(hoverOf(explorer.state, role, at))),
      onPin: (at) => explorer.pin(this.inside(pinOf(explorer.state, role, explorer.range(tokens, at), at))),
    };
    return new TextPanel(tokens, role, title, host);
  }

  /** What a longer text that is compared with has, and this one has not, is nothing here. */
  inside(cell) {
    const { layer } = this.explorer.subject;
    const kept = (at, count) => (at !== null && at !== undefined && at >= count ? null : at);
    return { ...cell, ...("query" in cell && { query: kept(cell.query, layer.n) }), ...("key" in cell && { key: kept(cell.key, layer.m) }) };
  }

  describe() {
    const { subject, state } = this.explorer;
    const shown = shownOf(subject, state.show);
    for (const option of this.show.select.options) option.hidden = option.disabled = shownOf(subject, option.value) !== option.value;
    this.show.select.value = shown;
    this.direction.select.value = state.direction;
    this.direction.label.hidden = shown === "received";
    const flow = subject.about.flows.find(({ name, section }) => name === shown && section === subject.section.name);
    const relevant = subject.about.flows.some(({ name, section }) => name === "relevance" && section === subject.section.name);
    this.caveat.textContent = [flow?.caveat, shown === "rollout" && !relevant ? NO_RELEVANCE : null].filter(Boolean).join(" ");
    this.caveat.hidden = !flow;
    this.setTitle(`${subject.keys.side.places ? "Positions" : "Text"} · ${flow ? `${shown} through all layers` : subject.name}`);
  }

  /** @returns {import("./shading.js").ShadingWish} */
  wish(subject) {
    const { explorer } = this;
    const { at, direction } = explorer.selection();
    const tokens = direction === "to" ? subject.queries : subject.keys;
    return { show: explorer.state.show, direction, range: at === null ? null : explorer.range(tokens, at) };
  }

  /** Shade by what is selected now. */
  follow() {
    const { subject, versus } = this.explorer;
    const wish = this.wish(subject);
    this.shader.want(subject, wish);
    if (this.versusPanel) {
      const alike = versus.layer.n === subject.layer.n && versus.layer.m === subject.layer.m;
      this.versusShader.want(versus, alike && wish.direction === "to" ? wish : { show: "received", direction: "to", range: null });
    } else this.versusShader.forget();
    this.mark(wish);
  }

  /** A shading has come. */
  take(shading) {
    this.shading = shading;
    this.shadedBy = this.wish(this.explorer.subject);
    this.paint();
    this.revealLargest();
  }

  paint() {
    const { explorer, shading } = this;
    const { colours } = explorer;
    const scale = shadingScale(shading, explorer);
    for (const panel of this.panels) {
      const fits = shading !== null && (panel.role === "both" || panel.role === shading.side) && shading.values.length === panel.tokens.side.count;
      panel.paint({ shading: fits ? shading : null, scale, colours });
    }
    this.paintVersus();
    const { query, key } = explorer.state;
    const chosen = explorer.selection().at ?? query ?? key;
    const flow = shownOf(explorer.subject, explorer.state.show);
    this.hint.textContent = shading || chosen !== null ? "" : `Hover or choose a token to see its ${flow}.`;
    this.hint.hidden = shading !== null;
    void this.rank();
  }

  paintVersus() {
    const { explorer, versusShading } = this;
    this.versusPanel?.paint({ shading: versusShading, scale: shadingScale(versusShading, explorer), colours: explorer.colours });
  }

  /** Outline the selected token and the one on the other side. */
  mark({ direction, range }) {
    const { explorer } = this;
    const { hovered, state, subject } = explorer;
    const [from, to] = direction === "to" ? ["queries", "keys"] : ["keys", "queries"];
    const name = direction === "to" ? "key" : "query";
    const at = hovered ? hovered[name] : state[name];
    const other = at === null ? null : explorer.range(subject[to], at);
    const sourcePinned = state[direction === "to" ? "query" : "key"];
    const pinned = range !== null && sourcePinned !== null && range.from <= sourcePinned && sourcePinned < range.to;
    for (const panel of this.panels) {
      const own = panel.role === "both" || panel.role === from;
      const facing = panel.role === "both" || panel.role === to;
      panel.mark({ ...panel.marks, chosen: own ? range : null, pinned: own && pinned ? range : null, other: facing ? other : null });
    }
  }

  /** Fill the table. */
  async rank() {
    const { explorer, shading, table } = this;
    const { subject, state } = explorer;
    const tokens = shading ? subject[shading.side] : subject.keys;
    const count = table.size(Math.max(subject.queries.side.count, subject.keys.side.count));
    const title = this.rankingTitle(shading);
    const colour = explorer.colours.css(explorer.dark ? 0.6 : 0.7);
    if (!shading) return table.show({ title, shading, ranking: null, tokens, colour });
    const rank = () => rankUnits(shading.values, candidates, (at) => explorer.range(tokens, at), shading.how, count);
    const candidates = rankingCandidates(shading.values);
    let ranking = rank();
    table.show({ title, shading, ranking, tokens, colour });
    const wanted = state.words ? candidates : ranking.top.map(({ from }) => from);
    if (wanted.every((at) => tokens.side.places || tokens.text(at) !== "")) return;
    await Promise.all(wanted.map((at) => tokens.ready(at, at + 1)));
    if (shading !== this.shading) return;
    ranking = rank();
    table.show({ title, shading, ranking, tokens, colour });
  }

  rankingTitle(shading) {
    const { subject } = this.explorer;
    if (!shading) return "The largest weights";
    if (shading.received) return "Keys that receive the most, per query on average";
    const { range, direction, show } = this.shadedBy;
    const tokens = direction === "to" ? subject.queries : subject.keys;
    const name = tokens.side.places ? `#${range.from}` : showToken(unitText(tokens, range), range.from);
    const flow = shownOf(subject, show);
    if (flow !== "weights") return direction === "to" ? `Keys that matter most to ${name}, by ${flow}` : `Queries that ${name} matters most to, by ${flow}`;
    return direction === "to" ? `Keys that ${name} attends to most` : `Queries that attend most to ${name}`;
  }

  /** The cell of a row of the table. */
  rowCell(at) {
    const { shadedBy, shading } = this;
    const range = shadedBy?.range ?? null;
    if (shading.received || range === null) return { query: null, key: at };
    return shading.side === "keys" ? { query: range.from, key: at } : { query: at, key: range.from };
  }

  hoverRow(at) {
    const { hovered } = this.explorer;
    if (at !== null || hovered) this.explorer.hover(at === null ? null : this.rowCell(at));
  }

  pickRow(at) {
    const cell = this.rowCell(at);
    this.explorer.pin(cell.query === null ? { direction: "from", key: at } : cell);
    const side = this.shading.side;
    void this.panels.find(({ role }) => role === "both" || role === side)?.pieces.reveal(at);
  }

  /** Beside the text of a pinned token, bring what has the most weight with it into sight. */
  revealLargest() {
    const { shading, explorer } = this;
    const { hovered, subject } = explorer;
    if (!shading || shading.received || hovered || subject.section.isSelf) return;
    const [at] = largestPlaces(shading.values, 1);
    if (at !== undefined) void this.panels.find(({ role }) => role === shading.side)?.pieces.reveal(at);
  }

  /** Bring what is pinned into sight. */
  reveal() {
    const { query, key, direction } = this.explorer.state;
    for (const panel of this.panels) {
      const at = panel.role === "queries" || (panel.role === "both" && direction === "to") ? query : key;
      if (at !== null) void panel.pieces.reveal(at);
    }
  }
}

/** What is the same text as another's. */
function textName({ about, section }) {
  return `${about.id} ${section.queries.id} ${section.keys.id} ${section.isSelf} ${showCount(section.keys.count)}`;
}

customElements.define("sightline-text", SightlineText);
