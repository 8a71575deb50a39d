import { button, choice, element } from "../common/dom.js";
import { View } from "../view.js";
import { HeadGrid } from "./grid.js";
import { LayerLoader } from "./loader.js";
import { HEAD_NUMBERS, meansOver, nameOfNumber, showHeadNumber } from "./names.js";
import { rowsOfHeads, sortHeads } from "./sort.js";
import { HeadTable } from "./table.js";

const ABOUT =
  "A label names the pattern that a head shows on this text once the weight on the first token is taken out; it does " +
  "not say what the head is for.";

/** Every head of the section, as thumbnails and as numbers. */
class SightlineAtlas extends View {
  build() {
    const { explorer } = this;
    this.setTitle("Atlas");
    this.loader = new LayerLoader(explorer.source, (job) => this.settled(job));
    this.grid = new HeadGrid({
      onChoose: ({ layer, head }) => this.choose(layer, head),
      onCompare: ({ layer, head }) => this.compare(layer, head),
      onLayer: (layer) => this.explorer.onCut?.({ layer }),
      onSight: () => this.see(),
    });
    this.table = new HeadTable((layer, head) => this.choose(layer, head));
    this.number = choice("show", [], (number) => void explorer.set({ number }), { id: "atlas-number" });
    this.sort = choice("sort", [], (sort) => void explorer.set(sort in HEAD_NUMBERS ? { sort, number: sort } : { sort }), { id: "atlas-sort" });
    this.versus = choice("compare with", [], (trace) => void this.compareWith(trace), { id: "atlas-versus" });
    this.tabular = button("table", () => this.toggle(), { id: "atlas-table", "aria-pressed": "false", title: "all numbers as a table" });
    this.tools.append(this.number.label, this.sort.label, this.versus.label, this.tabular);
    this.chosen = element("p", { class: "atlas-chosen", id: "atlas-chosen" });
    this.place = element("div", { class: "atlas-place scroll" });
    this.means = element("p", { class: "quiet atlas-means" });
    this.body.append(this.chosen, this.place, this.means);
    this.asTable = false;
    this.shown = "";
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("subject", "traces", "compared", "number", "sort", "effects")) this.describe();
    if (has("subject", "sort")) {
      this.gather();
      this.show();
    }
    if (has("number", "effects")) this.fill();
    if (has("subject", "colours", "scale", "ceiling")) this.see();
    if (has("subject", "compared")) this.mark();
    if (has("subject", "sort", "full")) this.reveal();
  }

  /** @param {number} layer @param {"numbers" | "thumbnails"} kind @returns {import("./loader.js").LayerJob} */
  job(layer, kind) {
    const { about, section } = this.explorer.subject;
    return { trace: about.id, call: section.layers[layer].call, kind };
  }

  /** The numbers of each layer; undefined where they are not here. */
  get numbers() {
    const { about, section } = this.explorer.subject;
    const { effects } = this.explorer;
    const own = effects && [about.id, about.whatIf?.of].includes(effects.trace) ? effects.sections[section.name] : null;
    return section.layers.map((_, layer) => {
      const numbers = this.loader.get(this.job(layer, "numbers"));
      return numbers && own ? { ...numbers, heads: { ...numbers.heads, effect: own[layer] } } : numbers;
    });
  }

  /** The names of the numbers that there are. */
  get offered() {
    const known = this.numbers.find(Boolean);
    const all = Object.keys(HEAD_NUMBERS);
    return known ? all.filter((name) => name in known.heads) : all.slice(0, 3);
  }

  /** The number shown: the one asked for, if there is such. */
  get numberName() {
    const { number } = this.explorer.state;
    return this.numbers.some((each) => each && number in each.heads) ? number : "entropy";
  }

  /** Controls and sentences. */
  describe() {
    const { state, subject, traces } = this.explorer;
    const names = [...new Set([...this.offered, ...[state.number, state.sort].filter((name) => name in HEAD_NUMBERS)])];
    const named = names.map((name) => [name, nameOfNumber(name)]);
    fillChoice(this.number, named, state.number);
    fillChoice(this.sort, [["layer", "layer"], ...named], state.sort);
    const others = traces.filter(({ id }) => id !== subject.about.id);
    fillChoice(this.versus, [["", "no other trace"], ...others.map(({ id, title }) => [id, title])], this.otherTrace);
    this.versus.label.hidden = others.length === 0;
    this.tellChosen();
    const loaded = this.numbers.find(Boolean);
    this.means.textContent = loaded ? `${sentence(meansOver(loaded))}. ${ABOUT}` : ABOUT;
  }

  /** The other trace that is compared with, if it is another. */
  get otherTrace() {
    const { subject, versus } = this.explorer;
    return versus && versus.about.id !== subject.about.id ? versus.about.id : "";
  }

  /** The numbers of the chosen head. */
  tellChosen() {
    const { subject } = this.explorer;
    const numbers = this.numbers[subject.layerAt];
    const at = Number(subject.head);
    const label = subject.single ? numbers?.labels?.[at] : null;
    const numbersShown = numbers && subject.single ? this.offered.map((name) => `${HEAD_NUMBERS[name].name} ${showHeadNumber(name, numbers.heads[name]?.[at])}`) : [];
    this.chosen.textContent = [label ? `${subject.name}: ${label}` : subject.name, ...numbersShown].join(" · ");
  }

  /** What the heads are laid out as: "table", in order of a number, or by "layer" until all numbers are here. */
  get kind() {
    const { sort } = this.explorer.state;
    if (!this.wantsAll || !this.numbers.every(Boolean)) return "layer";
    return this.asTable ? "table" : sort;
  }

  /** Whether the numbers of every layer are needed. */
  get wantsAll() {
    return this.asTable || this.explorer.state.sort in HEAD_NUMBERS;
  }

  /** Lay out the heads, if they are not laid out like this already. */
  show() {
    const { kind } = this;
    const { about, section } = this.explorer.subject;
    const shown = JSON.stringify([about.id, section.name, kind]);
    if (shown === this.shown) return;
    this.shown = shown;
    const rows = kind === "layer" ? [] : rowsOfHeads(this.numbers);
    this.place.replaceChildren(kind === "table" ? this.table.box : this.grid.box);
    if (kind === "table") this.table.show(rows, this.picked);
    else if (kind === "layer") this.grid.showLayers(section.layers);
    else this.grid.showList(sortHeads(rows, kind, true));
    this.place.classList.toggle("scroll", kind !== "table");
    this.fill();
    this.mark();
    this.reveal();
  }

  /** Bring the chosen head into sight. */
  reveal() {
    this.grid.reveal((cell) => this.isChosen(cell));
  }

  /** @param {import("./cell.js").HeadCell} cell */
  isChosen({ layer, head }) {
    const { subject } = this.explorer;
    return layer === subject.layerAt && head === subject.head;
  }

  get picked() {
    const { layerAt, head } = this.explorer.subject;
    return { layer: layerAt, head };
  }

  /** Fetch the numbers of all layers where they are needed, saying how many are here. */
  gather() {
    if (!this.wantsAll) {
      this.loading.get("all")?.abort();
      this.say("");
    }
    if (!this.wantsAll || this.numbers.every(Boolean)) return;
    const jobs = this.explorer.subject.section.layers.map((_, layer) => this.job(layer, "numbers"));
    const wanted = JSON.stringify(jobs);
    const running = this.loading.get("all");
    if (wanted === this.gathering && running && !running.signal.aborted) return;
    this.gathering = wanted;
    const what = `The numbers of ${jobs.length} layers`;
    const work = (signal, onProgress) => this.loader.all(jobs, signal, onProgress);
    void this.load(work, what, "all").then(() => {
      if (this.gathering !== wanted) return;
      this.gathering = "";
      const failed = jobs.map((job) => this.loader.error(job)).find(Boolean);
      if (failed) this.say(failed.message, () => this.gather());
    });
  }

  /** Something came, or failed. @param {import("./loader.js").LayerJob} job */
  settled(job) {
    const { about, section } = this.explorer.subject;
    const layer = section.layers.findIndex(({ call }) => call === job.call);
    if (job.trace !== about.id || layer < 0) return;
    if (job.kind === "numbers") {
      this.describe();
      this.fill(layer);
      this.show();
    }
    this.paint();
    const failed = this.loader.error(job);
    if (failed) this.say(failed.message, () => this.loader.again());
  }

  /** Numbers on the cells of one layer, or of all. @param {number | null} [only] */
  fill(only = null) {
    const { numbers, numberName } = this;
    for (const cell of this.grid.cells) {
      const ofLayer = only === null || only === cell.layer ? numbers[cell.layer] : undefined;
      if (ofLayer) cell.tell(ofLayer, numberName);
    }
  }

  /** What is in sight is fetched and painted; then the rest, where the page carries it. */
  see() {
    const { source, subject } = this.explorer;
    const { layerAt, section } = subject;
    const layers = this.grid.inSight.sort((a, b) => Number(b === layerAt) - Number(a === layerAt) || a - b);
    const rest = source.can.carry ? section.layers.map((_, layer) => layer).filter((layer) => !layers.includes(layer)) : [];
    this.loader.want([...layers, ...rest].flatMap((layer) => [this.job(layer, "thumbnails"), this.job(layer, "numbers")]));
    this.paint();
  }

  paint() {
    const { explorer } = this;
    const { scale, ceiling } = explorer.state;
    const name = `${scale} ${ceiling} ${explorer.most} ${explorer.subject.layer.m} ${explorer.dark}`;
    const look = { rgb: explorer.colours.rgb, shade: explorer.scale.of, name };
    const inSight = new Set(this.grid.inSight);
    for (const cell of this.grid.cells) {
      // A cell out of sight is painted once; new colours come when it is seen.
      const thumbnails = inSight.has(cell.layer) || !cell.painted ? this.loader.get(this.job(cell.layer, "thumbnails")) : null;
      if (thumbnails) cell.paint(thumbnails, look);
    }
  }

  mark() {
    const { subject, versus } = this.explorer;
    const near = versus && versus.about.id === subject.about.id && versus.section.name === subject.section.name;
    this.grid.mark(
      (cell) => this.isChosen(cell),
      ({ layer, head }) => near && layer === versus.layerAt && head === versus.head,
    );
    if (this.place.contains(this.table.box)) this.table.show(this.table.rows, this.picked);
  }

  /** Choose a head; another trace that shows the same head goes along. @param {number} layer @param {string} head */
  choose(layer, head) {
    if (this.explorer.onCut) return this.explorer.onCut({ layer, head });
    const { subject, versus } = this.explorer;
    const goesAlong = this.otherTrace && versus.layerAt === subject.layerAt && versus.head === subject.head;
    void this.explorer.set({ layer, head, ...(goesAlong ? { versus: { ...versus.wanted, layer, head } } : {}) });
  }

  /** Compare with a head of this trace, or end that. @param {number} layer @param {string} head */
  compare(layer, head) {
    const { subject, versus } = this.explorer;
    const other = { trace: subject.about.id, section: subject.section.name, layer, head };
    const isSame = JSON.stringify(versus?.wanted) === JSON.stringify(other);
    void this.explorer.set({ versus: isSame ? null : other });
  }

  /** Compare with the same head of another trace. @param {string} trace empty to end it */
  async compareWith(trace) {
    const { subject } = this.explorer;
    if (!trace) return void this.explorer.set({ versus: null });
    const about = await this.load(() => this.explorer.about(trace), "The other trace", "versus");
    if (!about) return;
    const section = about.sections.find(({ name }) => name === subject.section.name) ?? about.sections[0];
    void this.explorer.set({ versus: { trace, section: section.name, layer: subject.layerAt, head: subject.head } });
  }

  toggle() {
    this.asTable = !this.asTable;
    this.tabular.setAttribute("aria-pressed", String(this.asTable));
    this.gather();
    this.show();
  }
}

/** Fill a list, leaving it alone where it has these options already. */
function fillChoice({ select }, wanted, value) {
  const key = JSON.stringify(wanted);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...wanted.map(([each, name]) => element("option", { value: each }, name)));
  }
  select.value = value;
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}

customElements.define("sightline-atlas", SightlineAtlas);
