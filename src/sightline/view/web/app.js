import { Atlas } from "./atlas.js";
import { colourMap, SCALES } from "./colour.js";
import { byId, showWeight } from "./dom.js";
import { MapView } from "./map.js";
import { Subject } from "./subject.js";
import { TableView } from "./table.js";
import { TextView } from "./textview.js";
import { unitOf } from "./units.js";
import { HIDDEN } from "./weights.js";

/** The page: one state, four views of it. */
export class App {
  /**
   * @param {import("./data.js").Data} data
   * @param {import("./state.js").Store} store
   * @param {(onAnswer: (answer: any) => void) => {send: (wish: any) => void}} openPainter
   */
  constructor(data, store, openPainter) {
    this.data = data;
    this.store = store;
    /** @type {number | null} the unit under the pointer, which goes before the pinned one */
    this.hovered = null;
    this.colours = colourMap(false);
    this.subject = new Subject(data, store.state);
    this.clampPin();
    this.text = new TextView(this);
    this.table = new TableView(this);
    this.atlas = new Atlas(this);
    this.map = new MapView(this, openPainter);
    store.listen((changed) => this.update(changed));
  }

  /** Draw everything, as at the start. */
  start() {
    this.text.build();
    this.atlas.build();
    this.map.request();
    this.select();
    this.text.reveal();
  }

  /** What is selected now: under the pointer, else pinned, else nothing. */
  selection() {
    const { pin, direction } = this.store.state;
    return { unit: this.hovered ?? pin, direction };
  }

  /** @param {Set<string>} changed */
  update(changed) {
    const has = (...names) => names.some((name) => changed.has(name));
    if (has("section", "words")) this.follow(changed);
    if (has("section", "words", "layer", "head")) this.subject = new Subject(this.data, this.store.state);
    this.clampPin();
    if (has("section", "words")) this.text.build();
    if (has("section")) this.atlas.build();
    if (has("layer", "head")) this.atlas.mark();
    if (has("scale")) this.recolour();
    if (has("section", "words", "layer", "head", "region", "reduce")) this.map.request();
    this.select();
    if (has("pin")) this.text.reveal();
  }

  /** Keep the selection on the same place of the text when tokens become words, or words tokens. */
  follow(changed) {
    const { state } = this.store;
    const before = this.subject;
    this.hovered = null;
    let pin = null;
    if (!changed.has("section") && state.pin !== null) {
      const which = state.direction === "to" ? "queries" : "keys";
      pin = unitOf(this.data.side(state.section, which, state.words), before[which].starts[state.pin]);
    }
    this.store.state = { ...state, pin, region: null };
  }

  /** A pin beyond the text (from a mistyped address) is no pin. */
  clampPin() {
    const { pin, direction } = this.store.state;
    const side = direction === "to" ? this.subject.queries : this.subject.keys;
    if (pin !== null && pin >= side.count) this.store.state = { ...this.store.state, pin: null };
  }

  /** Show the selection in every view. */
  select() {
    this.text.paint();
    this.table.paint();
    this.map.draw();
    const { layer, head } = this.store.state;
    byId("where").textContent = `layer ${layer} head ${head}`;
    this.describe();
  }

  /** @param {number | null} unit */
  hover(unit) {
    if (unit === this.hovered) return;
    this.hovered = unit;
    this.select();
  }

  /**
   * The exact numbers of the weight between the selection and what the pointer is on.
   * @param {{unit: number, active: boolean}} hit
   */
  pointTo(hit) {
    const { pin, direction } = this.store.state;
    if (pin === null || (hit.active && this.hovered !== null && !this.subject.isSelf)) return;
    this.explain(direction === "to" ? { query: pin, key: hit.unit } : { query: hit.unit, key: pin });
  }

  /** @param {{query: number, key: number} | null} cell */
  explain(cell) {
    if (!cell) return this.describe();
    const f = this.subject.facts(cell.query, cell.key);
    const parts = [
      `“${f.query}” #${cell.query} → “${f.key}” #${cell.key}`,
      `weight ${showWeight(f.weight)}`,
      ...(f.score === null ? [] : [`score ${f.score.toFixed(3)}`]),
      ...(f.weight === null ? [] : [`rank ${f.rank} of ${f.of}`]),
      `row entropy ${f.entropy.toFixed(4)} nats`,
    ];
    byId("facts").textContent = parts.join(" · ");
  }

  /** What the shading means just now. */
  describe() {
    const { unit, direction } = this.selection();
    const { subject } = this;
    const { layer, head } = this.store.state;
    const where = `layer ${layer} head ${head}`;
    let line = `${where}: shaded by what each key gets from an average query. Hover a ${subject.unit}; click to pin it.`;
    if (unit !== null && direction === "to") line = `${where}: what “${subject.queries.texts[unit]}” #${unit} looks at`;
    if (unit !== null && direction === "from") line = `${where}: what looks at “${subject.keys.texts[unit]}” #${unit}`;
    byId("facts").textContent = line;
  }

  /**
   * A weight on the chosen scale, 0 to 1.
   * @param {number} weight
   */
  shade(weight) {
    return Math.min(1, Math.max(0, SCALES[this.store.state.scale].of(weight)));
  }

  /**
   * Values as pixels; hidden cells stay clear.
   * @param {HTMLCanvasElement} canvas
   * @param {Float32Array} values
   * @param {number} width
   * @param {number} height
   */
  picture(canvas, values, width, height) {
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const { rgb } = this.colours;
    for (let at = 0; at < values.length; at++) {
      if (values[at] === HIDDEN || Number.isNaN(values[at])) continue;
      const step = Math.round(this.shade(values[at]) * 255) * 3;
      image.data[at * 4] = rgb[step];
      image.data[at * 4 + 1] = rgb[step + 1];
      image.data[at * 4 + 2] = rgb[step + 2];
      image.data[at * 4 + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  /** @param {boolean} dark */
  setDark(dark) {
    this.colours = colourMap(dark);
    this.recolour();
    this.select();
  }

  recolour() {
    this.atlas.paint();
    const scale = SCALES[this.store.state.scale];
    const stops = Array.from({ length: 9 }, (_, i) => this.colours.css(i / 8)).join(", ");
    byId("legend-bar").style.background = `linear-gradient(to right, ${stops})`;
    byId("legend-low").textContent = scale.ends[0];
    byId("legend-high").textContent = scale.ends[1];
  }
}
