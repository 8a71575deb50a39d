/**
 * What the page shows. One object, read and set by every view, kept in the address (location.hash).
 * Positions are tokens, never words.
 * @typedef {object} State
 * @property {string} trace
 * @property {string} section
 * @property {number} layer its place among the section's layers
 * @property {string} head a number, "mean" or "max"
 * @property {number | null} query the pinned query
 * @property {number | null} key the pinned key
 * @property {"to" | "from"} direction what the query looks at, or who looks at the key
 * @property {boolean} words subwords merged to words
 * @property {string} show what shades the text: "weights", "received", "rollout" or "relevance"
 * @property {string} scale "linear", "sqrt" or "log"
 * @property {string} ceiling where the scale ends: "fixed" at 1, "view" at the largest weight in view, or a percentile of it
 * @property {string} reduce "mean" or "max" of each cell
 * @property {import("./map/pyramid.js").MapRange | null} view null for the whole matrix
 * @property {Other | null} versus what it is compared with
 * @property {"side" | "difference"} compare
 * @property {{query: number, key: number} | null} second a cell beside the pinned one
 * @property {string} sort order of the atlas: "layer" or a number's name
 * @property {string} number the number that the atlas shows
 * @property {string | null} full the view that fills the page
 */

/**
 * One head of one trace, beside the one shown.
 * @typedef {{trace: string, section: string, layer: number, head: string}} Other
 */

/** @type {State} */
export const START = {
  trace: "",
  section: "",
  layer: 0,
  head: "0",
  query: null,
  key: null,
  direction: "to",
  words: false,
  show: "weights",
  scale: "sqrt",
  ceiling: "fixed",
  reduce: "mean",
  view: null,
  versus: null,
  compare: "side",
  second: null,
  sort: "layer",
  number: "entropy",
  full: null,
};

const LETTERS = {
  trace: "t",
  section: "s",
  layer: "l",
  head: "h",
  query: "q",
  key: "k",
  direction: "d",
  words: "w",
  show: "x",
  scale: "c",
  ceiling: "e",
  reduce: "p",
  view: "v",
  versus: "b",
  compare: "m",
  second: "z",
  sort: "o",
  number: "n",
  full: "f",
};

// What a trace suggests at first: an address says it, whatever it is.
const ALWAYS = new Set(["layer", "head", "query", "words", "scale"]);

const WORDS = {
  direction: ["to", "from"],
  show: ["weights", "received", "rollout", "relevance"],
  scale: ["linear", "sqrt", "log"],
  ceiling: ["fixed", "view", "99.9", "99", "95"],
  reduce: ["mean", "max"],
  compare: ["side", "difference"],
};

/**
 * @param {State} state
 * @returns {string}
 */
export function toAddress(state) {
  const query = new URLSearchParams();
  for (const [name, letter] of Object.entries(LETTERS)) {
    const value = written(name, state[name]);
    if (ALWAYS.has(name) || value !== written(name, START[name])) query.set(letter, value);
  }
  return `#${query}`;
}

function written(name, value) {
  if (value === null) return "-";
  if (name === "view") return [value.x.toFixed(2), value.y.toFixed(2), value.per.toPrecision(6)].join("_");
  if (name === "second") return `${value.query}_${value.key}`;
  if (name === "versus") return [value.layer, value.head, value.trace, value.section].join("_");
  return typeof value === "boolean" ? String(Number(value)) : String(value);
}

/**
 * The part of the state that an address gives; what it leaves out or gets wrong is missing.
 * @param {string} hash
 * @returns {Partial<State>}
 */
export function fromAddress(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  /** @type {any} */
  const state = {};
  for (const [name, letter] of Object.entries(LETTERS)) {
    const text = query.get(letter);
    const value = text === null ? undefined : read(name, text);
    if (value !== undefined) state[name] = value;
  }
  return state;
}

function read(name, text) {
  if (name in WORDS) return WORDS[name].includes(text) ? text : undefined;
  if (text === "-") return START[name] === null ? null : undefined;
  switch (name) {
    case "layer":
    case "query":
    case "key":
      return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
    case "head":
      return isHead(text) ? text : undefined;
    case "words":
      return text === "1";
    case "view": {
      const [x, y, per] = text.split("_").map(Number);
      return [x, y, per].every(Number.isFinite) && per > 0 ? { x, y, per } : undefined;
    }
    case "second": {
      const match = /^(\d{1,9})_(\d{1,9})$/.exec(text);
      return match ? { query: Number(match[1]), key: Number(match[2]) } : undefined;
    }
    case "versus": {
      const [layer, head, trace, ...section] = text.split("_");
      const whole = /^\d{1,6}$/.test(layer) && isHead(head ?? "") && section.length;
      return whole ? { layer: Number(layer), head, trace, section: section.join("_") } : undefined;
    }
    default:
      return text;
  }
}

function isHead(text) {
  return /^(\d{1,5}|mean|max)$/.test(text);
}

/** A state that notifies its listeners of what changed. */
export class Store {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    /** @type {((changed: Set<string>) => void)[]} */
    this.listeners = [];
  }

  /**
   * @param {Partial<State>} change
   * @returns {Set<string>} the names that changed
   */
  set(change) {
    const changed = new Set(Object.keys(change).filter((name) => written(name, this.state[name]) !== written(name, change[name])));
    if (changed.size === 0) return changed;
    this.state = { ...this.state, ...change };
    this.listeners.forEach((listener) => listener(changed));
    return changed;
  }

  /** @param {(changed: Set<string>) => void} listener */
  listen(listener) {
    this.listeners.push(listener);
  }
}
