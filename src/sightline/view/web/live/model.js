import { DecoderSteps } from "./cache.js";
import { Changes } from "./changes.js";
import { ClassLogits, Copying, MaskedLogits, PositionLogits, TokenLogits } from "./heads.js";
import { normed } from "./layers.js";
import { InputPositions } from "./positions.js";
import { Stack } from "./stack.js";

/** @typedef {import("./attention.js").Watch} Watch */

/**
 * What a decoder looks at: the source's states [M,C], and its ids.
 * @typedef {{states: Float32Array, count: number, ids: number[], copyKeys?: Float32Array}} Memory
 */

/** @type {Watch} */
export const UNWATCHED = { changes: new Changes(), capture: null };

/** Token vectors, positions, segments and the norm behind them. */
class Embedding {
  constructor(parameters, name, config) {
    this.tokens = parameters.get("embedding.tokens.weight").data;
    this.width = config.width;
    this.scale = config.embedding_scale ? Math.fround(Math.sqrt(config.width)) : 1;
    this.positions = new InputPositions(parameters, name, config);
    this.segment = parameters.optional(`${name}.segments.weight`)?.subarray(0, config.width) ?? null;
    this.norm = config.embedding_norm ? parameters.norm(`${name}.norm`, config) : null;
  }

  /** What adds up to the vector of one id, before the norm. @param {number} id @param {number} position */
  partsOf(id, position) {
    const { width, scale } = this;
    const parts = [{ name: "tokens", vector: this.tokens.slice(id * width, (id + 1) * width).map((each) => each * scale) }];
    if (this.segment) parts.push({ name: "segments", vector: this.segment });
    const places = new Float32Array(width);
    this.positions.add(places, 0, position);
    if (this.positions.learned || this.positions.waves) parts.push({ name: "positions", vector: places });
    return parts;
  }

  /** Ids that stand from a position on → [N,C]. */
  forward(ids, positions) {
    const { width } = this;
    const x = new Float32Array(ids.length * width);
    ids.forEach((id, r) => {
      if (!(id >= 0 && (id + 1) * width <= this.tokens.length)) {
        throw new Error(`Token ${id} is not among the ${this.tokens.length / width} that this model knows.`);
      }
      for (let c = 0; c < width; c++) x[r * width + c] = this.tokens[id * width + c] * this.scale + (this.segment ? this.segment[c] : 0);
      this.positions.add(x, r, positions[r]);
    });
    return normed(x, this.norm);
  }
}

/** A text model of `sightline.models`: an Encoder, a Decoder or an EncoderDecoder. One text at a time, nothing padded. */
export class TextModel {
  /**
   * @param {{model: string, config: any}} described as config.json has it
   * @param {import("./parameters.js").Parameters} parameters
   */
  constructor({ model, config }, parameters) {
    const both = model === "EncoderDecoder";
    this.kind = model;
    this.config = config;
    this.embedding = new Embedding(parameters, "embedding", config);
    this.targetEmbedding = both ? new Embedding(parameters, "target_embedding", config) : this.embedding;
    this.encoder = model === "Decoder" ? null : new Stack(parameters, "encoder", config, config.layers, false);
    const layers = (both && config.decoder_layers) || config.layers;
    this.decoder = model === "Encoder" ? null : new Stack(parameters, "decoder", config, layers, both);
    this.head = headOfModel(parameters, model, config);
    this.copying = both && config.copying ? new Copying(parameters) : null;
  }

  /** The memory of a source. @param {number[]} ids @param {Watch} [watch] @returns {Memory} */
  encode(ids, watch = UNWATCHED) {
    const x = this.embedding.forward(ids, ids.map((_, i) => i));
    return { states: this.encoder.forward(x, ids.length, null, watch), count: ids.length, ids };
  }

  /**
   * States of all positions of a target, [N,C].
   * @param {number[]} ids
   * @param {Memory | null} memory
   * @param {Watch} [watch]
   */
  decode(ids, memory, watch = UNWATCHED) {
    const x = this.targetEmbedding.forward(ids, ids.map((_, i) => i));
    return this.decoder.forward(x, ids.length, memory, watch);
  }

  /**
   * What the head makes of states: logits of tokens [R,V] (with copying ln p), of classes [K], or of classes of each
   * position [R,K].
   * @param {Float32Array} states [R,C]
   * @param {number} rows R
   * @param {Memory | null} [memory]
   */
  logits(states, rows, memory = null) {
    if (this.head === null) return states;
    const logits = this.head.forward(states, rows);
    return this.copying ? this.copying.mix(logits, states, rows, memory) : logits;
  }

  /** A text that is being written. @param {Memory | null} memory @param {Watch} [watch] */
  writing(memory, watch = UNWATCHED) {
    return new Writing(this, memory, watch);
  }
}

function headOfModel(parameters, model, config) {
  if (model !== "Encoder") return new TokenLogits(parameters, "head", config);
  const kinds = {
    "masked-token": () => new MaskedLogits(parameters, config),
    classification: () => new ClassLogits(parameters, config),
    "token-classification": () => new PositionLogits(parameters),
  };
  return kinds[config.head]?.() ?? null;
}

/** A decoder that takes tokens and gives the logits of the next one. */
class Writing {
  constructor(model, memory, watch) {
    this.model = model;
    this.memory = memory;
    this.steps = new DecoderSteps(model.decoder, memory, watch);
    this.length = 0;
  }

  /** The first ids, of one candidate → logits [V] of the next token. @param {number[]} ids */
  begin(ids) {
    const { width } = this.model.config;
    this.length = ids.length;
    const states = this.steps.begin(this.model.targetEmbedding.forward(ids, ids.map((_, i) => i)), ids.length);
    return this.model.logits(states.slice(-width), 1, this.memory);
  }

  /** One more id of each candidate, which goes on from `origins[r]` → logits [R,V]. @param {number[]} ids @param {number[]} origins */
  next(ids, origins) {
    const positions = ids.map(() => this.length);
    this.length += 1;
    const states = this.steps.next(this.model.targetEmbedding.forward(ids, positions), origins);
    return this.model.logits(states, ids.length, this.memory);
  }
}
