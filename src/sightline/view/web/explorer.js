import { colourMap, differenceMap } from "./common/colour.js";
import { scaleOf } from "./common/scale.js";
import { START, Store } from "./state.js";
import { Subject } from "./subject.js";
import { TokenCache } from "./source/tokens.js";

const SHORT = 128; // up to so many keys single weights are large, and a log scale would show noise

/**
 * What all views share: the data source, the state, what is shown (and what it is compared with), colours, hover.
 *
 * Views hear of changes by `update(changed)`: names of the state, and "subject" (another trace, section, layer or
 * head), "compared" (the other one), "hover", "colours", "tokens" (texts have arrived).
 */
export class Explorer {
  /**
   * @param {import("./source/types.js").Source} source
   * @param {import("./source/types.js").TraceInfo[]} traces
   */
  constructor(source, traces) {
    this.source = source;
    this.traces = traces;
    this.store = new Store({ ...START });
    /** @type {Map<string, Promise<import("./source/types.js").About>>} */
    this.abouts = new Map();
    /** @type {Map<string, TokenCache>} */
    this.tokenCaches = new Map();
    /** @type {Subject} */
    this.subject = /** @type {any} */ (null);
    /** @type {Subject | null} */
    this.versus = null;
    /** @type {{query: number | null, key: number | null} | null} the cell, query or key under the pointer */
    this.hovered = null;
    /** @type {{texts: string[], output: import("./source/types.js").Output} | null} what is being written now */
    this.writing = null;
    /** @type {((what: {layer?: number, head?: string, query?: number | null, key?: number | null}) => void) | null} takes clicks */
    this.onCut = null;
    /** @type {(import("./source/types.js").HeadEffects & {trace: string}) | null} what each head does to an answer */
    this.effects = null;
    /** The largest weight in view or a percentile of them, as the map found it; null for a fixed scale. */
    this.most = null;
    this.dark = false;
    this.colours = colourMap(false);
    this.differenceColours = differenceMap(false);
    /** @type {{update: (changed: Set<string>) => void}[]} */
    this.views = [];
    this.opening = 0;
    this.store.listen((changed) => void this.follow(changed));
  }

  get state() {
    return this.store.state;
  }

  /** @param {Partial<import("./state.js").State>} change */
  set(change) {
    return this.store.set(change);
  }

  /**
   * Open what an address asks for; the rest is as the trace suggests.
   * @param {Partial<import("./state.js").State>} wish
   */
  async open(wish) {
    const known = this.traces.some((trace) => trace.id === wish.trace);
    const trace = known ? wish.trace : this.traces[0].id;
    const about = await this.about(trace);
    const first = about.sections.find((each) => each.name === about.start.section) ?? about.sections[0];
    const scale = Math.max(first.layers[0].n, first.layers[0].m) > SHORT ? "log" : "sqrt";
    const suggested = { ...about.start, head: String(about.start.head), scale };
    // A place of another trace means nothing here.
    const asked = known || wish.trace === undefined ? wish : {};
    this.store.state = { ...START, ...suggested, ...asked, trace };
    await this.follow(new Set(Object.keys(START)));
  }

  /** @param {string} trace @returns {Promise<import("./source/types.js").About>} */
  about(trace) {
    let about = this.abouts.get(trace);
    if (!about) {
      about = this.source.about(trace);
      this.abouts.set(trace, about);
      about.catch(() => this.abouts.delete(trace));
    }
    return about;
  }

  /** Make the subjects fit the state, then notify the views. @param {Set<string>} changed */
  async follow(changed) {
    const { state } = this;
    const turn = ++this.opening;
    const changes = new Set(changed);
    if (["trace", "section", "layer", "head"].some((name) => changed.has(name))) {
      const about = await this.about(state.trace);
      if (turn !== this.opening) return;
      this.subject = new Subject(this.source, about, state, (...side) => this.tokensOf(...side));
      changes.add("subject");
    }
    if (changed.has("versus")) {
      const { versus } = state;
      const about = versus && this.traces.some((each) => each.id === versus.trace) ? await this.about(versus.trace) : null;
      if (turn !== this.opening) return;
      this.versus = about && versus ? new Subject(this.source, about, versus, (...side) => this.tokensOf(...side)) : null;
      changes.add("compared");
    }
    this.settle();
    if (changes.has("subject") || changed.has("ceiling")) this.most = null;
    this.tell(changes);
  }

  /** What the subject does not have is not in the state. */
  settle() {
    const { section, layerAt, head, layer } = this.subject;
    const inside = (at, count) => (at !== null && at < count ? at : null);
    const [query, key] = [inside(this.state.query, layer.n), inside(this.state.key, layer.m)];
    const { second } = this.state;
    const kept = second && second.query < layer.n && second.key < layer.m ? second : null;
    const versus = this.versus?.wanted ?? null;
    this.store.state = { ...this.state, section: section.name, layer: layerAt, head, query, key, versus, second: kept };
  }

  /** @param {Set<string>} changed */
  tell(changed) {
    for (const view of this.views) view.update(changed);
  }

  /** @param {{query: number | null, key: number | null} | null} what */
  hover(what) {
    const before = this.hovered;
    if (before?.query === what?.query && before?.key === what?.key) return;
    this.hovered = what;
    this.tell(new Set(["hover"]));
  }

  /** Pin what was under the pointer: it shows now, not what was hovered. @param {Partial<import("./state.js").State>} change */
  pin(change) {
    if (this.onCut) return void this.onCut(change);
    this.hovered = null;
    this.set(change);
  }

  /**
   * What is selected: under the pointer, else pinned. `at` is a query where the direction is "to", else a key.
   * @returns {{at: number | null, direction: "to" | "from", pinned: boolean}}
   */
  selection() {
    const { direction, query, key } = this.state;
    const hovered = direction === "to" ? this.hovered?.query : this.hovered?.key;
    const pinned = direction === "to" ? query : key;
    return { at: hovered ?? pinned, direction, pinned: hovered === null || hovered === undefined };
  }

  /**
   * The tokens that a place stands for: itself, or with words merged its word.
   * @param {TokenCache} tokens
   * @param {number} at
   * @returns {{from: number, to: number}}
   */
  range(tokens, at) {
    return this.state.words ? tokens.word(at) : { from: at, to: at + 1 };
  }

  /**
   * The tokens of a side, fetched page by page, one cache for all who show them.
   * @param {import("./source/types.js").About} about
   * @param {import("./source/types.js").SideInfo} side
   */
  tokensOf(about, side) {
    const key = `${about.id} ${side.id}`;
    let cache = this.tokenCaches.get(key);
    if (!cache) {
      cache = new TokenCache(this.source, about.id, side, () => this.tell(new Set(["tokens"])));
      this.tokenCaches.set(key, cache);
    }
    return cache;
  }

  /** The scale of every view: from a weight to [0, 1]. */
  get scale() {
    const { scale, ceiling } = this.state;
    return scaleOf(scale, this.subject.layer.m, ceiling === "fixed" ? null : this.most);
  }

  /** The map reports where the scale ends. @param {number | null} most */
  setMost(most) {
    if (most === this.most) return;
    this.most = most;
    this.tell(new Set(["colours"]));
  }

  /** @param {boolean} dark */
  setDark(dark) {
    this.dark = dark;
    this.colours = colourMap(dark);
    this.differenceColours = differenceMap(dark);
    if (this.subject) this.tell(new Set(["colours"]));
  }
}
