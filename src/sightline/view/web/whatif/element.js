import { button, element } from "../common/dom.js";
import { unitText } from "../text/unit.js";
import { View } from "../view.js";
import { OutcomeTable } from "./outcome.js";
import { edgeAway, headAway, layerAway, percent, sentenceOf, tokenAway, weightTo, withChange } from "./targets.js";

/** @typedef {import("../live/changes.js").Change} Change */

const REST = 120; // milliseconds that a weight rests before the model runs

/** What the model would say if it looked otherwise: edges, heads, layers and tokens away, weights dragged. */
class SightlineWhatIf extends View {
  build() {
    this.setTitle("What if");
    /** @type {Map<string, Change[]>} by the trace that they change */
    this.lists = new Map();
    /** @type {Map<string, any>} the last answer of each */
    this.answers = new Map();
    /** @type {Map<string, string>} of which trace another is a change */
    this.changed = new Map();
    this.cut = button("✂ take away what I click", () => this.toggleCut(), { id: "whatif-cut", "aria-pressed": "false", title: "a cell of the map, a head of the atlas or its layer's number, a token of the text (x)" });
    this.undo = button("undo", () => this.put(this.list.slice(0, -1)), { id: "whatif-undo" });
    this.clear = button("clear", () => this.put([]), { id: "whatif-clear" });
    this.heads = button("which head mattered?", () => void this.askEffects(), { id: "whatif-heads" });
    this.tools.append(this.cut, this.undo, this.clear, this.heads);
    this.away = {
      edge: button("", () => this.add(this.edge), { id: "whatif-edge" }),
      token: button("", () => this.add(this.token), { id: "whatif-token" }),
      head: button("", () => this.add(headAway(this.explorer.subject)), { id: "whatif-head" }),
      layer: button("", () => this.add(layerAway(this.explorer.subject)), { id: "whatif-layer" }),
    };
    this.weight = element("input", { type: "range", min: "0", max: "1", step: "0.01", id: "whatif-weight", disabled: true });
    this.weight.addEventListener("input", () => this.dragged());
    this.weightName = element("span");
    this.weightShare = element("output", { for: "whatif-weight" });
    const slider = element("label", { class: "whatif-slider", "data-own-arrows": true }, this.weightName, this.weight, this.weightShare);
    this.changes = element("ol", { class: "whatif-changes", "aria-label": "changes" });
    this.progress = element("p", { class: "whatif-progress", role: "status" });
    this.outcome = new OutcomeTable((at) => this.nameOf(this.outcomeTokens, { from: at, to: at + 1 }));
    this.body.append(element("div", { class: "whatif-away" }, ...Object.values(this.away)), slider, this.changes, this.progress, this.outcome.box);
  }

  /** The trace that is changed: that which is shown, or the one that it is a change of. */
  get base() {
    const { about } = this.explorer.subject;
    return about.whatIf?.of ?? about.id;
  }

  get list() {
    return this.lists.get(this.base) ?? [];
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    const { about } = this.explorer.subject;
    this.hidden = !about.whatIf;
    if (this.hidden) return;
    if (has("subject", "query", "key", "words", "tokens", "direction")) this.describe();
    if (has("subject", "query", "key", "words")) void this.readWeight();
    if (has("subject")) this.showList();
    if (has("query") && this.explorer.subject.queries.side.id === this.lastSide) this.outcome.turnTo(this.explorer.state.query);
  }

  /** The tokens behind which words come: the queries of the last section. */
  get outcomeTokens() {
    const { about } = this.explorer.subject;
    return this.explorer.tokensOf(about, about.sections.at(-1).queries);
  }

  get lastSide() {
    return this.explorer.subject.about.sections.at(-1).queries.id;
  }

  /** @param {import("../source/tokens.js").TokenCache} tokens @param {import("../text/merge.js").TokenRange} range */
  nameOf(tokens, range) {
    return `“${unitText(tokens, range).trim() || `#${range.from}`}”`;
  }

  /** The pinned query and key, with their words where these are merged. */
  get pins() {
    const { explorer } = this;
    const { subject, state } = explorer;
    const unit = (at, tokens) => (at === null ? null : explorer.range(tokens, at));
    return { query: unit(state.query, subject.queries), key: unit(state.key, subject.keys) };
  }

  /** @returns {Change | null} */
  get edge() {
    const { query, key } = this.pins;
    return query && key && edgeAway(this.explorer.subject, query, key);
  }

  /** The token that is pinned: the key, else the query. @returns {Change | null} */
  get token() {
    const { subject } = this.explorer;
    const { query, key } = this.pins;
    if (key) return tokenAway(subject.about, subject.keys.side.id, key);
    return query && tokenAway(subject.about, subject.queries.side.id, query);
  }

  /** Buttons say what they take away. */
  describe() {
    const { subject } = this.explorer;
    const { query, key } = this.pins;
    const { edge, token, head, layer } = this.away;
    const names = { query: query && this.nameOf(subject.queries, query), key: key && this.nameOf(subject.keys, key) };
    const say = (made, text, can) => {
      made.textContent = text;
      made.disabled = !can;
    };
    say(edge, query && key ? `cut ${names.query} → ${names.key}` : "cut an edge: pin a cell of the map", query && key);
    say(token, `nobody looks at ${names.key ?? names.query ?? "…"}`, this.token);
    say(head, subject.single ? `head ${subject.head} away` : "head away: choose one", subject.single);
    say(layer, `${subject.section.name} layer ${subject.layerAt} away`, true);
    this.weightName.textContent = query && key ? `weight of ${names.query} → ${names.key}` : "weight: pin a cell of the map";
  }

  /** The weight of what is pinned, as it is given or as it is. */
  async readWeight() {
    const { subject } = this.explorer;
    const { query, key } = this.pins;
    this.weight.disabled = true;
    this.weightShare.textContent = "";
    this.reading?.abort();
    if (!query || !key) return;
    const { signal } = (this.reading = new AbortController());
    const given = this.list.find((each) => each.kind === "set" && JSON.stringify(each) === JSON.stringify(weightTo(subject, query, key, each.to)));
    const row = await subject.source.row({ ...subject.place, trace: this.base }, query.from, query.to, signal).catch(() => null);
    if (signal.aborted || !row) return;
    const own = row.slice(key.from, key.to);
    const seen = own.some((each) => !Number.isNaN(each));
    const weight = given ? given.to : own.reduce((sum, each) => sum + (Number.isNaN(each) ? 0 : each), 0);
    this.weight.disabled = !seen;
    this.weight.value = String(weight);
    this.weightShare.textContent = seen ? percent(weight) : "it may not look there";
  }

  dragged() {
    const { query, key } = this.pins;
    if (!query || !key) return;
    const to = Number(this.weight.value);
    this.weightShare.textContent = percent(to);
    clearTimeout(this.timer);
    const change = weightTo(this.explorer.subject, query, key, to);
    this.timer = setTimeout(() => this.put(withChange(this.list, change)), REST);
  }

  toggleCut() {
    const { explorer } = this;
    explorer.onCut = explorer.onCut ? null : (what) => this.clicked(what);
    this.cut.setAttribute("aria-pressed", String(explorer.onCut !== null));
    document.body.classList.toggle("cutting", explorer.onCut !== null);
  }

  /**
   * Something was clicked while clicks take away.
   * @param {{layer?: number, head?: string, query?: number | null, key?: number | null}} what
   */
  clicked({ layer, head, query = null, key = null }) {
    const { explorer } = this;
    const { subject } = explorer;
    const unit = (at, tokens) => explorer.range(tokens, at);
    if (layer !== undefined) return this.add(head === undefined ? layerAway(subject, layer) : headAway(subject, layer, head));
    if (query !== null && key !== null) return this.add(edgeAway(subject, unit(query, subject.queries), unit(key, subject.keys)));
    if (key !== null) return this.add(tokenAway(subject.about, subject.keys.side.id, unit(key, subject.keys)));
    if (query !== null) this.add(tokenAway(subject.about, subject.queries.side.id, unit(query, subject.queries)));
  }

  /** @param {Change | null} change */
  add(change) {
    if (change) this.put(withChange(this.list, change));
    else this.note("Nobody looks at these tokens: they are no keys.");
  }

  /** Another list of changes; the model runs with it. @param {Change[]} list */
  put(list) {
    this.lists.set(this.base, list);
    this.showList();
    void this.run();
  }

  showList() {
    const { list, explorer } = this;
    const { about } = explorer.subject;
    const textOf = (section, side, places) => {
      const found = about.sections.find(({ name }) => name === section);
      return this.nameOf(explorer.tokensOf(about, found[side]), { from: places[0], to: places.at(-1) + 1 });
    };
    const items = list.map((change, at) => {
      const text = sentenceOf(change, textOf);
      const drop = button("×", () => this.put(list.filter((_, place) => place !== at)), { "aria-label": `take back: ${text}`, title: "take back" });
      return element("li", {}, element("span", {}, text), drop);
    });
    this.changes.replaceChildren(...items);
    this.undo.disabled = this.clear.disabled = list.length === 0;
    this.outcome.show(list.length ? (this.answers.get(this.base) ?? null) : null);
  }

  /** Run the model with the changes, and show both answers. */
  async run() {
    const { base, list, explorer } = this;
    this.running?.abort();
    if (list.length === 0) {
      this.answers.delete(base);
      this.note("");
      this.outcome.show(null);
      if (this.isChangeOf(explorer.state.versus?.trace, base)) void explorer.set({ versus: null });
      return;
    }
    const controller = (this.running = new AbortController());
    const stop = this.busy("the model reads again", controller);
    try {
      const answer = await explorer.source.whatIf(base, list, { signal: controller.signal, onProgress: stop.share });
      if (controller.signal.aborted) return;
      this.answers.set(base, answer);
      this.changed.set(answer.trace, base);
      explorer.traces = await explorer.source.list();
      stop.end("");
      this.outcome.show(answer);
      this.compareWith(answer.trace);
    } catch (error) {
      if (!controller.signal.aborted) stop.end(/** @type {Error} */ (error).message);
    }
  }

  isChangeOf(trace, base) {
    return trace !== undefined && this.changed.get(trace) === base;
  }

  /** The map shows both, where the trace itself is shown. @param {string} trace */
  compareWith(trace) {
    const { explorer } = this;
    const { section, layer, head, trace: shown } = explorer.state;
    if (shown === this.base) void explorer.set({ versus: { trace, section, layer, head } });
    else void explorer.open({ ...explorer.state, trace });
    explorer.tell(new Set(["traces"]));
  }

  /** What each head does to the answer, for the atlas. */
  async askEffects() {
    const { base, explorer } = this;
    this.running?.abort();
    const controller = (this.running = new AbortController());
    const stop = this.busy("each head is taken away", controller);
    try {
      const found = await explorer.source.effects(base, { signal: controller.signal, onProgress: stop.share });
      if (controller.signal.aborted) return;
      explorer.effects = { trace: base, ...found };
      const sign = found.baseline < 0 ? found.baseline.toFixed(3) : percent(found.baseline);
      stop.end(`The atlas shows by how much the ${found.about} (${sign}) changes without each head: below 0, the head had raised it.`);
      explorer.set({ number: "effect" });
      explorer.tell(new Set(["effects", "number"]));
    } catch (error) {
      if (!controller.signal.aborted) stop.end(/** @type {Error} */ (error).message);
    }
  }

  /** A bar while something runs, with a button that stops it. @param {string} what @param {AbortController} controller */
  busy(what, controller) {
    const bar = element("progress", { max: "1", "aria-label": what });
    const stop = button("cancel", () => {
      controller.abort();
      this.note("Stopped.");
    });
    const timer = setTimeout(() => this.progress.replaceChildren(`${what} `, bar, " ", stop), 200);
    const end = (text) => {
      clearTimeout(timer);
      if (this.running === controller) this.note(text);
    };
    controller.signal.addEventListener("abort", () => clearTimeout(timer));
    return { share: (share) => (bar.value = share), end };
  }

  /** @param {string} text */
  note(text) {
    this.progress.textContent = text;
  }
}

customElements.define("sightline-whatif", SightlineWhatIf);
