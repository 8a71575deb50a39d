import { button, element } from "../common/dom.js";
import { showCount, showToken } from "../common/format.js";
import { View } from "../view.js";
import { rowsOfStages } from "./arithmetic.js";
import { walkOf } from "./walk.js";

const REST = 80; // milliseconds that the pointer rests before another query is asked for
const FEW = 10;
const MANY = 50;

/** Every stage of one query in one head, with its numbers, as a walk of steps, one for each stage. */
class SightlineSteps extends View {
  build() {
    this.setTitle("Steps");
    /** the current step's name: the walk of another layer may have more steps or fewer */
    this.step = "";
    this.asList = false;
    this.most = FEW;
    /** @type {import("../source/types.js").Stages | null} */
    this.stages = null;
    /** @type {number | null} the query that the pointer left last */
    this.lastHovered = null;
    this.previous = button("‹ step before", () => this.go(-1), { id: "steps-before" });
    this.following = button("next step ›", () => this.go(1), { id: "steps-next" });
    this.whole = button("show all", () => this.toggle(), { id: "steps-all", "aria-pressed": "false", title: "all steps, one below the other" });
    this.more = button("more keys", () => this.toggleMost(), { id: "steps-more", "aria-pressed": "false", title: `the ${MANY} largest weights` });
    this.tools.append(this.previous, this.following, this.whole, this.more);
    this.names = element("ol", { class: "steps-names" });
    this.about = element("p", { class: "steps-about" });
    this.walk = element("div", { class: "steps-walk" });
    this.body.append(this.about, this.names, this.walk);
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("trace", "section")) this.lastHovered = null;
    if (has("hover")) this.lastHovered = this.explorer.hovered?.query ?? this.lastHovered;
    if (has("subject", "query")) this.ask();
    else if (has("hover") && this.explorer.state.query === null) this.askSoon();
    else if (has("tokens", "key", "colours", "words", "query")) this.draw();
  }

  /** The pinned query, else the one that the pointer is or was on. */
  get query() {
    const { state, subject } = this.explorer;
    const at = state.query ?? this.lastHovered;
    return at !== null && at < subject.layer.n ? at : null;
  }

  askSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), REST);
  }

  /** Fetch what is shown, if it is not here. */
  async ask() {
    clearTimeout(this.timer);
    const { subject } = this.explorer;
    const { query } = this;
    this.setTitle(subject.single ? `Steps · ${subject.name}` : "Steps");
    const wanted = subject.single && query !== null ? JSON.stringify([subject.place, query, this.most]) : "";
    if (wanted === this.wanted && (this.stages || !wanted)) return this.draw();
    this.wanted = wanted;
    if (!wanted) {
      this.loading.get("")?.abort();
      this.status.hidden = true;
      this.stages = null;
      return this.draw();
    }
    const stages = await this.load((signal) => subject.source.stages(subject.place, query, this.most, signal), "The steps");
    if (wanted !== this.wanted) return;
    this.stages = stages ?? null;
    this.draw();
  }

  draw() {
    const { subject } = this.explorer;
    const isReady = subject.single && this.stages !== null && this.wanted !== "";
    for (const part of [this.previous, this.following, this.whole, this.more, this.names]) part.hidden = !isReady;
    if (!subject.single) return this.offerHeads();
    if (this.query === null) return this.offerQuery();
    if (!isReady) return void [this.about, this.walk].forEach((part) => part.replaceChildren());
    this.drawWalk();
  }

  drawWalk() {
    const { stages, explorer, steps, at: current } = this;
    this.previous.disabled = current === 0;
    this.following.disabled = current === steps.length - 1;
    this.previous.hidden = this.following.hidden = this.asList;
    this.more.hidden = stages.rest.keys === 0 && this.most === FEW;
    this.drawNames();
    const inWords = explorer.state.words ? " Steps go token by token, for words as well." : "";
    this.about.replaceChildren(`${this.nameOf("query", stages.query)} in ${explorer.subject.name}, ${this.keysShown()}.${inWords}`);
    const walk = this.gather();
    const shown = this.asList ? steps.map((_, at) => at) : [current];
    if (stages.visible === 0) return void this.walk.replaceChildren(element("p", { class: "state" }, "This query may not look at any key: its weights and its context are 0."));
    const focused = this.walk.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.key : undefined;
    this.walk.replaceChildren(...shown.map((at) => stepSection(steps[at], at, walk)));
    if (focused !== undefined) /** @type {HTMLElement | null} */ (this.walk.querySelector(`[data-key="${focused}"]`))?.focus();
  }

  /** The steps' names as buttons; made anew only where the steps are others. */
  drawNames() {
    const { steps, at: current } = this;
    const texts = steps.map(({ name }, at) => `${at + 1} ${name}`);
    if (texts.join() !== [...this.names.children].map(({ textContent }) => textContent).join()) {
      const buttons = steps.map(({ name, plainly }, at) => button(texts[at], () => this.showStep(name), { title: plainly }));
      this.names.replaceChildren(...buttons.map((each) => element("li", {}, each)));
    }
    [...this.names.querySelectorAll("button")].forEach((each, at) => {
      if (!this.asList && at === current) each.setAttribute("aria-current", "step");
      else each.removeAttribute("aria-current");
    });
  }

  /** The steps of the stages that are here. */
  get steps() {
    return walkOf(this.stages);
  }

  /** The place of the current step; the first where the walk has none of its name. */
  get at() {
    return Math.max(0, this.steps.findIndex(({ name }) => name === this.step));
  }

  /** Which keys the tables have. */
  keysShown() {
    const { keys, rest } = this.stages;
    const { key } = this.explorer.state;
    if (keys.length === 0) return "which sees no key";
    if (rest.keys === 0) return keys.length === 1 ? "the only key that it sees" : `all ${showCount(keys.length)} keys that it sees`;
    const isMissing = key !== null && !keys.some((each) => each.key === key);
    const missing = isMissing ? `; the pinned key ${this.nameOf("key", key)} is not among them` : "";
    return `the ${keys.length} keys with the largest weights${missing}`;
  }

  /** What a walk is about. @returns {import("./walk.js").Walk} */
  gather() {
    const { explorer, stages } = this;
    const { subject, state } = explorer;
    const rows = rowsOfStages(stages);
    const heaviest = rows.reduce((best, row) => (row.weight > best.weight ? row : best), rows[0]);
    return {
      stages,
      rows,
      row: rows.find(({ key }) => key === state.key) ?? heaviest,
      layer: subject.layer,
      head: Number(subject.head),
      isCausal: subject.section.isCausal,
      isSelf: subject.section.isSelf,
      query: this.nameOf("query", stages.query),
      keys: { name: (key) => this.nameOf("key", key), pinned: state.key, onPin: (key) => this.pin(key) },
      colours: explorer.differenceColours,
      weightColours: explorer.colours,
      onHead: (head) => void explorer.set({ head: String(head) }),
    };
  }

  /** @param {"query" | "key"} side @param {number} at */
  nameOf(side, at) {
    const tokens = side === "query" ? this.explorer.subject.queries : this.explorer.subject.keys;
    return tokens.side.places ? `#${at}` : showToken(tokens.text(at), at);
  }

  /** Pin a key, and with it the query shown; or unpin it. @param {number} key */
  pin(key) {
    const { state } = this.explorer;
    void this.explorer.set({ query: this.stages.query, key: state.key === key ? null : key });
  }

  /** Steps are of one head. */
  offerHeads() {
    const { layer, head } = this.explorer.subject;
    const heads = Array.from({ length: layer.heads }, (_, each) => button(`head ${each}`, () => void this.explorer.set({ head: String(each) })));
    this.about.replaceChildren(`Steps are of one head, and what is chosen is the ${head === "max" ? "maximum" : "mean"} over heads. Choose one:`);
    this.walk.replaceChildren(element("div", { class: "tools" }, ...heads));
  }

  /** No query yet. */
  offerQuery() {
    const { subject } = this.explorer;
    const choose = button("take the first token", () => void this.takeFirst());
    this.about.replaceChildren(`Choose a ${subject.queries.side.places ? "place" : "word"}, and every step of its attention is shown here. `);
    this.walk.replaceChildren(choose);
  }

  /** Pin the first token that the tokenizer did not add. */
  async takeFirst() {
    const { subject } = this.explorer;
    const count = Math.min(subject.layer.n, 64);
    await subject.queries.ready(0, count);
    const first = Array.from({ length: count }, (_, at) => at).find((at) => !subject.queries.special(at));
    void this.explorer.set({ query: first ?? 0 });
  }

  /** So many steps on. @param {number} by */
  go(by) {
    const { steps, at } = this;
    this.showStep(steps[Math.min(Math.max(at + by, 0), steps.length - 1)].name);
  }

  /** @param {string} name a step's */
  showStep(name) {
    this.step = name;
    this.draw();
    if (this.asList) this.walk.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  toggle() {
    this.asList = !this.asList;
    this.whole.setAttribute("aria-pressed", String(this.asList));
    this.draw();
  }

  toggleMost() {
    this.most = this.most === FEW ? MANY : FEW;
    this.more.setAttribute("aria-pressed", String(this.most === MANY));
    void this.ask();
  }
}

/**
 * One step on the page.
 * @param {import("./walk.js").Step} step
 * @param {number} at
 * @param {import("./walk.js").Walk} walk
 */
function stepSection({ name, plainly, formula, says, show }, at, walk) {
  const heading = element("h3", {}, `${at + 1} · ${name} `, element("span", { class: "step-plainly" }, plainly));
  return element("section", { class: "step" }, heading, element("p", { class: "step-says" }, says(walk)), element("p", { class: "step-formula" }, formula), ...show(walk));
}

customElements.define("sightline-steps", SightlineSteps);
