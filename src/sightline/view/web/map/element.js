import { button, choice, element } from "../common/dom.js";
import { showCount } from "../common/format.js";
import { View } from "../view.js";
import { MapCanvas } from "./canvas.js";
import { ceilingOf } from "./ceiling.js";
import { DifferenceTiles } from "./difference.js";
import { MapLegend } from "./legend.js";
import { Minimap } from "./minimap.js";
import { Tiles } from "./tiles.js";

/** @type {[string, string][]} */
const CEILINGS = [
  ["fixed", "1, everywhere"],
  ["view", "the largest in view"],
  ["99.9", "99.9 % of cells"],
  ["99", "99 % of cells"],
  ["95", "95 % of cells"],
];

/** The matrix of the chosen head as a zoomable map, beside or less the one that it is compared with. */
class SightlineMap extends View {
  build() {
    const { explorer } = this;
    const set = (name) => (value) => void explorer.set({ [name]: value });
    /** @type {[string, string][]} */
    const scales = [["linear", "linear"], ["sqrt", "square root"], ["log", "log"]];
    this.scale = choice("scale", scales, set("scale"), { id: "scale" });
    this.ceiling = choice("up to", CEILINGS, set("ceiling"), { id: "ceiling" });
    this.reduce = choice("cells", [["mean", "mean"], ["max", "max"]], set("reduce"), { id: "reduce" });
    this.compare = choice("compare", [["side", "side by side"], ["difference", "difference"]], set("compare"), { id: "compare" });
    this.fitAgain = button("fit again", () => this.fit(), { title: "end the scale at what is in view now" });
    this.progress = element("span", { id: "progress", role: "status", class: "quiet" });
    this.cancel = button("cancel", () => this.stop(), { id: "cancel" });
    this.tools.append(
      this.compare.label,
      this.scale.label,
      this.ceiling.label,
      this.fitAgain,
      this.reduce.label,
      element(
        "span",
        { class: "zoom" },
        button("+", () => this.zoom(0.5), { id: "zoom-in", "aria-label": "zoom in" }),
        button("−", () => this.zoom(2), { id: "zoom-out", "aria-label": "zoom out" }),
        button("all", () => void explorer.set({ view: null }), { id: "zoom-all", "aria-label": "show the whole map" }),
      ),
      this.progress,
      this.cancel,
    );
    const arrived = () => this.arrived();
    const failed = (error) => this.say(error.message, () => this.main.request());
    this.tiles = new Tiles(explorer.source, arrived, failed);
    this.otherTiles = new Tiles(explorer.source, arrived, failed);
    this.difference = new DifferenceTiles(this.tiles, this.otherTiles);
    this.main = this.canvas("map-canvas", () => explorer.subject, () => (this.subtracts ? this.difference : this.tiles));
    this.other = this.canvas("map-versus", () => explorer.versus ?? explorer.subject, () => this.otherTiles);
    const mini = element("canvas", { id: "minimap", "aria-hidden": "true" });
    this.minimap = new Minimap(mini, this.main);
    this.names = [element("figcaption", { id: "map-name" }), element("figcaption", { id: "versus-name" })];
    const figures = [this.main, this.other].map(({ canvas }, at) => element("figure", {}, this.names[at], canvas));
    figures[0].append(mini);
    this.legend = new MapLegend();
    this.body.append(element("div", { class: "maps" }, ...figures), this.legend.box);
    new ResizeObserver(() => this.request()).observe(this.body);
  }

  /** A canvas with a host that reads everything from the explorer when it draws. */
  canvas(id, subject, tiles) {
    const { explorer } = this;
    const view = this;
    const range = (name) => {
      const at = explorer.state[name];
      const tokens = name === "query" ? subject().queries : subject().keys;
      return at === null || at >= tokens.side.count ? null : explorer.range(tokens, at);
    };
    const host = {
      get subject() {
        return subject();
      },
      get tiles() {
        return tiles();
      },
      get view() {
        return explorer.state.view;
      },
      get look() {
        return view.look;
      },
      get pinned() {
        return { query: range("query"), key: range("key") };
      },
      get hovered() {
        return explorer.hovered;
      },
      onView: (to) => void explorer.set({ view: to }),
      onPoint: (cell) => explorer.hover(cell),
      onPin: (cell, compare) => void (compare ? explorer.set({ second: cell }) : explorer.pin(cell)),
    };
    const label = "the attention matrix of the chosen head: rows are queries, columns are keys; Shift and arrows move, + and − zoom";
    return new MapCanvas(element("canvas", { id, class: "matrix", role: "img", tabindex: 0, "aria-label": label }), host);
  }

  /** Whether the map shows the difference of two heads. */
  get subtracts() {
    return this.explorer.state.compare === "difference" && this.fits;
  }

  /** Whether the two that are compared have one size. */
  get fits() {
    const { subject, versus } = this.explorer;
    return versus !== null && versus.layer.n === subject.layer.n && versus.layer.m === subject.layer.m;
  }

  get look() {
    const { explorer, subtracts } = this;
    const { scale, ceiling } = explorer.state;
    const { of } = explorer.scale;
    const name = `${scale} ${ceiling} ${explorer.most} ${explorer.subject.layer.m} ${explorer.dark} ${subtracts}`;
    if (!subtracts) return { rgb: explorer.colours.rgb, shade: of, name };
    return { rgb: explorer.differenceColours.rgb, shade: (d) => 0.5 + (Math.sign(d) * of(Math.abs(d))) / 2, name };
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    const { explorer } = this;
    if (has("subject", "compared", "reduce", "compare")) this.use();
    if (has("subject", "compared", "compare", "reduce", "scale", "ceiling", "colours")) this.describe();
    if (has("subject", "compared", "compare", "reduce", "view", "full")) this.request();
    if (has("ceiling")) this.fit();
    if (has("view")) for (const canvas of [this.main, this.other]) canvas.pointAgain();
    // An address that names a view and a query means both.
    if (has("query", "key") && !has("view")) this.main.reveal(explorer.state);
    this.redraw();
  }

  use() {
    const { subject, versus, state } = this.explorer;
    this.tiles.use(subject.place, state.reduce);
    if (versus) this.otherTiles.use(versus.place, state.reduce);
    else this.otherTiles.stop();
    this.other.canvas.parentElement.hidden = versus === null || this.subtracts;
    this.fitted = false;
  }

  /** Words and controls. */
  describe() {
    const { explorer } = this;
    const { state, subject, versus } = explorer;
    for (const name of ["scale", "ceiling", "reduce", "compare"]) this[name].select.value = state[name];
    this.compare.label.hidden = versus === null;
    this.fitAgain.hidden = state.ceiling === "fixed";
    this.setTitle(`Map · ${subject.name}`);
    const name = (each) => (explorer.traces.length > 1 ? `${each.about.title} · ${each.section.name} · ${each.name}` : `${each.section.name} · ${each.name}`);
    this.names[0].textContent = this.subtracts ? `${name(subject)} less ${name(versus)}` : versus ? name(subject) : "";
    this.names[1].textContent = versus ? name(versus) : "";
    const sizes = versus && !this.fits ? `A difference needs two of one size: ${size(subject)} and ${size(versus)}.` : "";
    if (state.compare === "difference" && sizes) this.say(sizes);
    else this.say("");
    this.legend.draw({ explorer, subtracts: this.subtracts });
  }

  request() {
    if (!this.explorer.subject) return;
    this.main.request();
    if (this.explorer.versus && !this.subtracts) this.other.request();
    void this.follow();
  }

  redraw() {
    this.main.redraw();
    if (this.explorer.versus && !this.subtracts) this.other.redraw();
    cancelAnimationFrame(this.miniFrame);
    this.miniFrame = requestAnimationFrame(() => this.minimap.draw());
  }

  /** A tile has come. */
  arrived() {
    if (this.explorer.state.ceiling !== "fixed" && !this.fitted) this.fit();
    this.redraw();
    void this.follow();
  }

  /** End the scale at what is in view now; it stays there while the map moves. */
  fit() {
    const { ceiling } = this.explorer.state;
    if (ceiling === "fixed") return this.explorer.setMost(null);
    const tiles = this.main.inView.map((tile) => this.main.host.tiles.get(tile));
    this.fitted = tiles.every((tile) => tile && !tile.sampled);
    this.explorer.setMost(ceilingOf(tiles.filter(Boolean).map((tile) => tile.values), ceiling));
  }

  /** Say what share is exact, while it is not all. */
  async follow() {
    const { explorer, tiles } = this;
    const open = Math.max(tiles.open, explorer.versus ? this.otherTiles.open : 0);
    this.dataset.exact = String(open === 0);
    this.cancel.hidden = open === 0 || tiles.paused;
    if (open === 0 || tiles.paused) {
      this.progress.textContent = open === 0 ? "" : "sampled";
      return;
    }
    this.progress.textContent ||= "refining…";
    if (this.asking || explorer.subject.layer.coarse === 0) return;
    this.asking = true;
    const progress = await explorer.source.progress(tiles.place).catch(() => null);
    if (progress && tiles.open && !Number.isNaN(progress.share)) this.progress.textContent = `sampled · refining ${Math.round(progress.share * 100)} %`;
    setTimeout(() => {
      this.asking = false;
      void this.follow();
    }, 500);
  }

  /** Stop refining; what is shown stays, until the view moves. */
  stop() {
    for (const tiles of [this.tiles, this.otherTiles]) {
      tiles.paused = true;
      tiles.stop();
    }
    void this.follow();
  }

  zoom(factor) {
    this.main.zoom(factor);
  }

  move(dx, dy) {
    this.main.move(dx, dy);
  }
}

function size({ layer }) {
  return `${showCount(layer.n)} × ${showCount(layer.m)}`;
}

customElements.define("sightline-map", SightlineMap);
