/**
 * What the page shows. One object, read and set by every view, kept in the address (location.hash).
 * @typedef {object} State
 * @property {string} section
 * @property {number} layer
 * @property {number} head
 * @property {number | null} pin the chosen unit: a query, or a key where direction is "from"
 * @property {"to" | "from"} direction what the query looks at, or who looks at the key
 * @property {boolean} words
 * @property {"linear" | "sqrt" | "log"} scale
 * @property {"mean" | "max"} reduce
 * @property {import("./pool.js").Region | null} region null for the whole matrix
 */

const LETTERS = { section: "s", layer: "l", head: "h", pin: "q", direction: "d", words: "w", scale: "c", reduce: "p" };

/**
 * @param {State} state
 * @returns {string}
 */
export function toHash(state) {
  const query = new URLSearchParams();
  for (const [name, letter] of Object.entries(LETTERS)) {
    const value = state[name];
    query.set(letter, value === null ? "-" : typeof value === "boolean" ? String(Number(value)) : String(value));
  }
  const z = state.region;
  if (z) query.set("z", [z.r0, z.r1, z.c0, z.c1].join("."));
  return `#${query}`;
}

/**
 * The state that an address means; what it leaves out or gets wrong is as in `start`.
 * @param {string} hash
 * @param {State} start
 * @param {any} meta
 * @returns {State}
 */
export function fromHash(hash, start, meta) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const oneOf = (letter, allowed, otherwise) => (allowed.includes(query.get(letter)) ? query.get(letter) : otherwise);
  const below = (letter, end, otherwise) => {
    const text = query.get(letter);
    const value = Number(text);
    return text !== null && text !== "" && Number.isInteger(value) && value >= 0 && value < end ? value : otherwise;
  };
  const section = oneOf("s", meta.sections.map((each) => each.name), start.section);
  const layers = meta.sections.find((each) => each.name === section).layers;
  const layer = below("l", layers.length, Math.min(start.layer, layers.length - 1));
  const words = query.has("w") ? query.get("w") === "1" : start.words;
  const moved = section !== start.section || words !== start.words;
  return {
    section,
    layer,
    head: below("h", layers[layer].heads, Math.min(start.head, layers[layer].heads - 1)),
    pin: query.get("q") === "-" ? null : below("q", Infinity, moved ? null : start.pin),
    direction: oneOf("d", ["to", "from"], start.direction),
    words,
    scale: oneOf("c", ["linear", "sqrt", "log"], start.scale),
    reduce: oneOf("p", ["mean", "max"], start.reduce),
    region: regionFrom(query.get("z")),
  };
}

function regionFrom(text) {
  const numbers = (text ?? "").split(".").map(Number);
  if (numbers.length !== 4 || !numbers.every(Number.isInteger)) return null;
  const [r0, r1, c0, c1] = numbers;
  return r0 >= 0 && c0 >= 0 && r1 > r0 && c1 > c0 ? { r0, r1, c0, c1 } : null;
}

/** A state that tells its listeners what changed. */
export class Store {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    /** @type {((changed: Set<string>) => void)[]} */
    this.listeners = [];
  }

  /** @param {Partial<State>} change */
  set(change) {
    const changed = new Set(Object.keys(change).filter((name) => this.state[name] !== change[name]));
    if (changed.size === 0) return;
    this.state = { ...this.state, ...change };
    this.listeners.forEach((listener) => listener(changed));
  }

  /** @param {(changed: Set<string>) => void} listener */
  listen(listener) {
    this.listeners.push(listener);
  }
}
