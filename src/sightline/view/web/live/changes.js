/**
 * One call of attention while the model runs.
 * @typedef {object} RunningCall
 * @property {"encoder" | "decoder" | "cross"} section
 * @property {number} layer its place among the section's layers
 * @property {number} heads
 * @property {number} groups key/value heads
 * @property {number} width of queries and keys, D
 *
 * What changes do in one call; each part may be missing. Positions count from 0 through the whole text; while text is
 * written, a row is one query, and all keys before it are there. Arrays are changed in place.
 * @typedef {object} CallChanges
 * @property {(vectors: {query: Float32Array, key: Float32Array, value: Float32Array}, queries: number[], keys: number[]) => void} [project]
 *   queries [R,H·D], keys and values [R',G·D] as they were projected, and their positions
 * @property {(head: number, query: number, scores: Float64Array) => void} [score] the row's masked scores [M], −∞ where hidden
 * @property {(head: number, query: number, context: Float32Array) => void} [context] a head's context [D]
 */

/** What a reader wants changed in a run, as plain objects; see `sightline.intervene` for what each means. */
export class Changes {
  /** @param {any[]} [list] */
  constructor(list = []) {
    if (list.length) throw new Error(`This page cannot change what a model looks at: ${JSON.stringify(list[0])}.`);
    this.list = list;
  }

  /**
   * What acts on a call; null where nothing does.
   * @param {RunningCall} _call
   * @returns {CallChanges | null}
   */
  of(_call) {
    return null;
  }
}
