import { colourMap } from "../colour.js";
import { byId, element, showWeight } from "../dom.js";
import { toAddress } from "./address.js";
import { MapView } from "./mapview.js";
import { scaleOf } from "./scale.js";
import { showHeads, showStages } from "./tables.js";
import { Tiles } from "./tiles.js";
import { TokenList } from "./tokenlist.js";

/** The page of an open trace: one thing that is shown, and the views of it. */
export class Page {
  /**
   * @param {import("./source.js").ServedSource} source
   * @param {any} about the trace
   * @param {import("./address.js").Shown} shown
   */
  constructor(source, about, shown) {
    Object.assign(this, { source, about, shown });
    this.colours = colourMap(false);
    this.tiles = new Tiles(source, () => this.tilesChanged(), (error) => this.tell(error));
    this.map = new MapView(byId("map"), this.tiles, {
      onPoint: (cell) => this.explain(cell),
      onPin: (cell) => this.set({ query: cell.query, key: cell.key }),
      onView: (view) => this.keep({ view }),
    });
    this.list = new TokenList(byId("tokens"), byId("tokens-all"), (place) => this.set({ [this.side]: place }));
    this.other = new TokenList(element("div"), element("div"), () => {});
  }

  get layer() {
    return this.about.layers[this.shown.call];
  }

  /** The axis that the token list shows as chosen: queries, or keys where one asks what looks at them. */
  get side() {
    return this.shown.direction === "to" ? "query" : "key";
  }

  get head() {
    const { trace, call, head } = this.shown;
    return { trace, call, head };
  }

  start() {
    this.map.view = this.shown.view;
    this.open();
    new ResizeObserver(() => this.map.request()).observe(byId("map"));
  }

  /** Another layer or head. */
  open() {
    const [, heads, n, m] = this.layer.shape;
    const { shown } = this;
    if (!["mean", "max"].includes(shown.head) && Number(shown.head) >= heads) shown.head = "0";
    if (shown.query !== null && shown.query >= n) shown.query = null;
    if (shown.key !== null && shown.key >= m) shown.key = null;
    const options = [...Array.from({ length: heads }, (_, h) => String(h)), "mean", "max"];
    byId("head").replaceChildren(...options.map((h) => element("option", { value: h }, h.startsWith("m") ? `${h} over heads` : h)));
    Object.assign(this.map.size, { n, m, top: this.layer.top });
    this.tiles.use(this.head, shown.reduce);
    const page = (named) => (named ? (from, count) => this.source.tokens(shown.trace, from, count).then((told) => told.tokens) : null);
    this.list.show(m, page(this.layer.names.key));
    this.other.show(n, page(this.layer.names.query));
    byId("about").textContent = `${this.about.model || this.about.title} · ${n.toLocaleString("en")} × ${m.toLocaleString("en")} · ${heads} heads${this.layer.name ? ` · ${this.layer.name}` : ""}`;
    this.note(this.layer.verified ? "" : `Unverified: ${this.layer.reason}`);
    this.loadNumbers();
    this.refresh();
    this.select();
  }

  /** @param {Partial<import("./address.js").Shown>} change */
  set(change) {
    this.keep(change);
    const has = (...names) => names.some((name) => name in change);
    if (has("call", "head", "trace")) return this.open();
    if (has("reduce")) this.tiles.use(this.head, this.shown.reduce);
    this.refresh();
    if (has("query", "key", "direction")) this.select();
  }

  keep(change) {
    Object.assign(this.shown, change);
    history.replaceState(null, "", toAddress(this.shown));
  }

  /** Colours, controls and tiles as they are wished for. */
  refresh() {
    for (const name of ["head", "scale", "reduce", "direction"]) byId(name).value = this.shown[name];
    byId("call").value = String(this.shown.call);
    byId("fit").checked = this.shown.fit;
    this.recolour();
    this.map.request();
  }

  recolour() {
    const { scale: name, fit } = this.shown;
    const most = fit ? this.map.most() : null;
    const scale = scaleOf(name, this.map.size.m, most);
    const look = `${name} ${most} ${this.map.size.m} ${document.documentElement.dataset.theme}`;
    const pin = { query: this.shown.query, key: this.shown.key };
    this.map.look = { colours: this.colours, scale, name: look, pin };
    this.shade = { css: (w) => this.colours.css(scale.of(w)), ink: (w) => this.colours.ink(scale.of(w)) };
    [byId("legend-low").textContent, byId("legend-high").textContent] = scale.ends;
    const bar = byId("legend-bar").getContext("2d");
    for (let at = 0; at < 256; at++) {
      bar.fillStyle = this.colours.css(at / 255);
      bar.fillRect(at, 0, 1, 1);
    }
    this.list.paint({ ...this.list.look, shade: this.shade });
    this.map.redraw();
  }

  setDark(dark) {
    this.colours = colourMap(dark);
    this.recolour();
  }

  tilesChanged() {
    if (this.shown.fit) this.recolour();
    this.map.redraw();
    this.progress();
  }

  /** What share is exact, while it is not all. */
  async progress() {
    const open = this.tiles.open;
    byId("cancel").hidden = open === 0 || this.tiles.paused;
    document.documentElement.dataset.exact = String(open === 0);
    if (open === 0 || this.tiles.paused) {
      byId("progress").textContent = open === 0 ? "" : "sampled";
      return;
    }
    byId("progress").textContent ||= "refining…";
    if (this.asking || this.layer.coarse === 0) return;
    this.asking = true;
    const told = await this.source.read(this.head, "progress").catch(() => null);
    if (told && this.tiles.open) byId("progress").textContent = `sampled · refining ${Math.round(told.share * 100)} %`;
    setTimeout(() => ((this.asking = false), this.progress()), 500);
  }

  /** Stop refining; what is shown stays, until the view moves. */
  cancel() {
    this.tiles.paused = true;
    this.tiles.stop();
    this.progress();
  }

  /** The line about the cell under the pointer, or the pinned one. */
  async explain(cell) {
    this.explaining?.abort();
    const { query, key } = this.shown;
    const asked = cell ?? (query !== null && key !== null ? { query, key } : null);
    if (!asked) return void (byId("facts").textContent = "");
    const controller = (this.explaining = new AbortController());
    const name = (list, place) => (list.text(place) ? `“${list.text(place)}” #${place}` : `#${place}`);
    const pair = () => `${name(this.other, asked.query)} → ${name(this.list, asked.key)}`;
    byId("facts").textContent = pair();
    await new Promise((resolve) => setTimeout(resolve, 40));
    if (controller.signal.aborted) return;
    try {
      const told = await this.source.read(this.head, "cell", asked, controller.signal);
      await Promise.all([this.other.ready(asked.query), this.list.ready(asked.key)]);
      if (controller.signal.aborted) return;
      const score = told.score === null ? "" : ` · score ${told.score.toFixed(3)}`;
      const rank = told.rank === null ? "" : ` · rank ${told.rank.toLocaleString("en")} of ${told.of.toLocaleString("en")}`;
      byId("facts").textContent = `${pair()}: weight ${showWeight(told.weight)}${score}${rank} · row entropy ${told.entropy.toFixed(3)} nats`;
    } catch (error) {
      if (!controller.signal.aborted) this.tell(error);
    }
  }

  /** Shade the tokens, show the steps of the pinned query. */
  async select() {
    this.selecting?.abort();
    const controller = (this.selecting = new AbortController());
    const { query, key, direction, head } = this.shown;
    const place = this.shown[this.side];
    const to = direction === "to";
    this.list.paint({ weights: null, chosen: place, shade: this.shade });
    this.explain(null);
    byId("text-title").textContent = place === null ? "Tokens" : to ? `Tokens · query #${place}` : `Tokens · key #${place}`;
    if (place !== null) this.list.reveal(to && key !== null ? key : place);
    try {
      if (place !== null) {
        const read = await this.source.numbers(this.head, to ? "row" : "column", { [this.side]: place }, controller.signal);
        this.list.paint({ weights: read.values, chosen: place, shade: this.shade });
      }
      const one = !["mean", "max"].includes(head);
      byId("steps-title").textContent = !one ? "Steps · choose one head" : query === null ? "Steps · choose a cell or a token" : `Steps · query #${query}, head ${head}`;
      byId("steps").replaceChildren();
      byId("steps-rest").textContent = "";
      if (query === null || !one) return;
      const told = await this.source.read(this.head, "stages", { query }, controller.signal);
      await Promise.all(told.keys.map(({ key: at }) => this.list.ready(at)));
      if (controller.signal.aborted) return;
      showStages(byId("steps"), byId("steps-rest"), told, (at) => this.list.text(at));
    } catch (error) {
      if (!controller.signal.aborted) this.tell(error);
    }
  }

  async loadNumbers() {
    const call = this.shown.call;
    try {
      this.numbers ??= new Map();
      if (!this.numbers.has(call)) this.numbers.set(call, await this.source.read({ ...this.head, head: "mean" }, "numbers"));
      if (call !== this.shown.call) return;
      const told = this.numbers.get(call);
      byId("atlas-sample").textContent = told.sampled ? `means over ${told.rows} sampled rows of ${told.of.toLocaleString("en")}` : "means over all rows";
      showHeads(byId("heads"), told, this.shown.head, (head) => this.set({ head }));
    } catch (error) {
      this.tell(error);
    }
  }

  async goTo(text) {
    const place = /^#?\d+$/.test(text) ? Number(text.replace("#", "")) : null;
    try {
      const found = place !== null ? [place] : (await this.source.find(this.shown.trace, text, (this.shown[this.side] ?? -1) + 1)).found;
      const [, , n, m] = this.layer.shape;
      if (found.length === 0 || found[0] >= (this.side === "query" ? n : m)) return this.note(`There is no “${text}” here.`);
      this.note("");
      this.set({ [this.side]: found[0] });
      this.map.reveal({ query: this.shown.query, key: this.shown.key });
    } catch (error) {
      this.tell(error);
    }
  }

  tell(error) {
    this.note(error.message === "Failed to fetch" ? "The server does not answer: is sightline serve still running?" : error.message);
  }

  note(text) {
    byId("notice").textContent = text;
    byId("notice").hidden = !text;
  }
}
