import { relevanceOf, rolloutOf } from "./flow.js";
import { headOf } from "./head.js";
import { entropyOf, meanRow, rankIn, sumColumn } from "./rows.js";
import { stagesOf } from "./stages.js";
import { readTensor } from "./tensor.js";
import { tileOf } from "./tiles.js";
import { maskedScore } from "./weights.js";

const KEPT = 3; // decoded layers: a long text's queries and keys are large

/** Everything that the page can be asked for, computed from layers as the page carries them. */
export class Answers {
  constructor() {
    /** @type {Map<number, {raw: any, texts: Object<string, string>}>} */
    this.carried = new Map();
    /** @type {Map<number, import("./head.js").Layer>} */
    this.decoded = new Map();
    /** @type {Map<number, import("./head.js").Layer>} */
    this.held = new Map();
  }

  /** A layer whose numbers are here, and stay. @param {number} call @param {import("./head.js").Layer} layer */
  hold(call, layer) {
    this.held.set(call, layer);
  }

  /** @param {number} call @param {any} raw @param {Object<string, string>} texts base64 by block */
  take(call, raw, texts) {
    this.carried.set(call, { raw, texts });
  }

  /** @param {number} call @returns {import("./head.js").Layer} */
  layer(call) {
    const held = this.held.get(call);
    if (held) return held;
    let layer = this.decoded.get(call);
    if (!layer) {
      const { raw, texts } = this.carried.get(call);
      const read = ([name, ref]) => [name, lazyTensor(ref, (id) => texts[id])];
      layer = { ...raw, tensors: Object.fromEntries(Object.entries(raw.tensors).map(read)) };
    }
    this.decoded.delete(call);
    this.decoded.set(call, layer);
    if (this.decoded.size > KEPT) this.decoded.delete(this.decoded.keys().next().value);
    return layer;
  }

  /** All heads of a layer. @param {number} call */
  all(call) {
    const layer = this.layer(call);
    return Array.from({ length: layer.heads }, (_, at) => headOf(layer, at));
  }

  /** The heads that a place means, and how they are joined. @param {{call: number, head: string}} place */
  heads({ call, head }) {
    if (head === "mean" || head === "max") return { heads: this.all(call), over: head };
    return { heads: [headOf(this.layer(call), Number(head))], over: "mean" };
  }

  /**
   * @param {any} asked what: "tile", "row", "column", "cell", "stages", "received" or "rollout"
   * @param {(share: number) => Promise<void>} pause lets other computations run, and throws once this one is cancelled
   */
  answer(asked, pause) {
    return this[asked.what](asked, pause);
  }

  tile({ place, tile, how }, pause) {
    const { heads, over } = this.heads(place);
    return tileOf(heads, over, tile, how, pause);
  }

  row({ place, from, to }) {
    const { heads, over } = this.heads(place);
    return meanRow(heads, over, from, to);
  }

  column({ place, from, to }) {
    const { heads, over } = this.heads(place);
    return sumColumn(heads, over, from, to);
  }

  /** What each key gets from the average query; over heads, the mean or maximum of what they give. */
  received({ place }) {
    const layer = this.layer(place.call);
    const { n, m } = layer;
    const over = /^m/.test(place.head);
    const heads = over ? Array.from({ length: layer.heads }, (_, at) => at) : [Number(place.head)];
    const { data } = layer.tensors.received;
    return Float32Array.from({ length: m }, (_, j) => {
      const means = heads.map((head) => data[head * m + j] / n);
      return place.head === "max" ? Math.max(...means) : means.reduce((sum, each) => sum + each, 0) / means.length;
    });
  }

  /** @returns {import("../source/types.js").Cell} */
  cell({ place, query, key }) {
    const { heads, over } = this.heads(place);
    const row = meanRow(heads, over, query, query + 1);
    const hidden = Number.isNaN(row[key]);
    const { rank, of } = rankIn(row, key);
    const score = heads.length > 1 || hidden ? null : maskedScore(heads[0], query, key);
    return { weight: hidden ? null : row[key], score, rank: hidden ? null : rank, of, entropy: entropyOf(row) };
  }

  stages({ place, query, k }) {
    return stagesOf(this.all(place.call), Number(place.head), query, k);
  }

  rollout({ calls, direction, from, to }, pause) {
    const layers = calls.map((call) => () => this.all(call));
    return rolloutOf(layers, this.layer(calls[0]).n, { direction, from, to }, pause);
  }

  relevance({ calls, direction, from, to }, pause) {
    const layers = calls.map((call) => () => this.all(call));
    return relevanceOf(layers, this.layer(calls[0]).n, { direction, from, to }, pause);
  }
}

/** A tensor that is decoded when its numbers are first asked for: values take part in the steps only. */
function lazyTensor(ref, textOf) {
  let data = null;
  return {
    shape: ref.shape,
    get data() {
      return (data ??= readTensor(ref, textOf));
    },
  };
}
