import { headOf } from "./head.js";
import { readTensor } from "./tensor.js";
import { tokenUnits, wordUnits } from "./units.js";

const LAYERS_KEPT = 4; // decoded layers held at once: a long text's queries and keys are large

/**
 * Tokens of a section as the page carries them.
 * @typedef {{texts: string[], words: number[], special: number[], glued: number[]}} Tokens
 */

/**
 * One side of a section in the units shown: tokens or words.
 * @typedef {object} Side
 * @property {number} count
 * @property {Int32Array} starts
 * @property {string[]} texts
 * @property {boolean[]} special
 * @property {boolean[]} glued true where no blank precedes
 */

/** What the page carries; layers are decoded when they are first looked at. */
export class Data {
  /**
   * @param {any} meta
   * @param {(id: string) => string} textOf base64 text of a tensor
   */
  constructor(meta, textOf) {
    this.meta = meta;
    this.textOf = textOf;
    /** @type {Map<string, import("./head.js").Layer>} */
    this.layers = new Map();
  }

  /** @param {string} name */
  section(name) {
    return this.meta.sections.find((section) => section.name === name) ?? this.meta.sections[0];
  }

  /**
   * @param {string} section
   * @param {number} index
   * @returns {import("./head.js").Layer}
   */
  layer(section, index) {
    const key = `${section}/${index}`;
    const known = this.layers.get(key);
    if (known) return known;
    const raw = this.section(section).layers[index];
    const tensors = Object.fromEntries(
      Object.entries(raw.tensors).map(([name, ref]) => [name, { data: this.read(ref), shape: ref.shape }]),
    );
    const layer = { ...raw, tensors };
    this.layers.set(key, layer);
    if (this.layers.size > LAYERS_KEPT) this.layers.delete(this.layers.keys().next().value);
    return layer;
  }

  /** @param {import("./tensor.js").TensorRef} ref */
  read(ref) {
    return readTensor(ref, this.textOf);
  }

  /**
   * @param {string} section
   * @param {number} layer
   * @param {number} head
   */
  head(section, layer, head) {
    return headOf(this.layer(section, layer), head);
  }

  /**
   * Queries or keys of a section, by token or by word.
   * @param {string} name
   * @param {"queries" | "keys"} which
   * @param {boolean} words
   * @returns {Side}
   */
  side(name, which, words) {
    const section = this.section(name);
    return sideOf(section[which] ?? section.queries, words);
  }
}

/**
 * @param {Tokens} tokens
 * @param {boolean} words
 * @returns {Side}
 */
export function sideOf(tokens, words) {
  const units = words ? wordUnits(tokens.words) : tokenUnits(tokens.texts.length);
  const special = new Set(tokens.special);
  const glued = new Set(tokens.glued);
  const starts = Array.from(units.starts.subarray(0, units.count));
  return {
    ...units,
    texts: starts.map((at, u) => tokens.texts.slice(at, units.starts[u + 1]).join("")),
    special: starts.map((at) => special.has(at)),
    glued: starts.map((at) => glued.has(at)),
  };
}
