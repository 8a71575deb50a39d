import { activate, normed } from "./layers.js";
import { product } from "./products.js";

/**
 * Rows of logits to ln p, in place: each row's softmax, in logarithms.
 * @param {Float32Array | Float64Array} logits [R,V]
 * @param {number} size V
 */
export function logSoftmax(logits, size) {
  for (let at = 0; at < logits.length; at += size) {
    let most = -Infinity;
    for (let v = at; v < at + size; v++) if (logits[v] > most) most = logits[v];
    let sum = 0;
    for (let v = at; v < at + size; v++) sum += Math.exp(logits[v] - most);
    const lse = most + Math.log(sum);
    for (let v = at; v < at + size; v++) logits[v] -= lse;
  }
  return logits;
}

/** Logits of tokens: with the embedding's own vectors where they are tied. */
export class TokenLogits {
  /** @param {import("./parameters.js").Parameters} parameters @param {string} name @param {any} config */
  constructor(parameters, name, config) {
    const { data, shape } = parameters.get(config.tied ? "embedding.tokens.weight" : `${name}.weight`);
    this.layer = { weight: data, bias: parameters.optional(`${name}.bias`), outputs: shape[0], inputs: shape[1] };
  }

  /** @param {Float32Array} x [R,C] @param {number} rows */
  forward(x, rows) {
    return product(x, rows, this.layer);
  }
}

/** Logits of classes of the whole text. */
export class ClassLogits {
  /** @param {import("./parameters.js").Parameters} parameters @param {any} config */
  constructor(parameters, config) {
    this.pooling = config.pooling;
    this.pooler = config.pooler ? parameters.linear("head.pooler") : null;
    this.classes = parameters.linear("head.classes");
  }

  /** @param {Float32Array} x [N,C] @param {number} count N */
  forward(x, count) {
    const width = this.classes.inputs;
    let pooled = new Float32Array(width);
    const rows = this.pooling === "first" ? 1 : count;
    for (let i = 0; i < rows; i++) for (let c = 0; c < width; c++) pooled[c] += x[i * width + c] / rows;
    if (this.pooler) pooled = product(pooled, 1, this.pooler).map(Math.tanh);
    return product(pooled, 1, this.classes);
  }
}

/** BERT's: a layer, its norm, then logits of tokens. */
export class MaskedLogits {
  /** @param {import("./parameters.js").Parameters} parameters @param {any} config */
  constructor(parameters, config) {
    this.transform = parameters.linear("head.transform");
    this.activation = config.activation;
    this.norm = parameters.norm("head.norm", config);
    this.tokens = new TokenLogits(parameters, "head.tokens", config);
  }

  /** @param {Float32Array} x [N,C] @param {number} count N */
  forward(x, count) {
    const inner = activate(product(x, count, this.transform), this.activation);
    return this.tokens.forward(normed(inner, this.norm), count);
  }
}

/** Logits of classes of each position. */
export class PositionLogits {
  /** @param {import("./parameters.js").Parameters} parameters */
  constructor(parameters) {
    this.classes = parameters.linear("head.classes");
  }

  /** @param {Float32Array} x [N,C] @param {number} count N */
  forward(x, count) {
    return product(x, count, this.classes);
  }
}

const TINY = 1e-9;

/** Mixes what the decoder would write with tokens of the source (See et al. 2017): ln p. */
export class Copying {
  /** @param {import("./parameters.js").Parameters} parameters */
  constructor(parameters) {
    this.query = parameters.linear("copying.query");
    this.key = parameters.linear("copying.key");
    this.gate = parameters.linear("copying.gate");
  }

  /**
   * @param {Float32Array} logits [R,V], which become ln p
   * @param {Float32Array} states [R,C]
   * @param {number} rows
   * @param {import("./model.js").Memory} memory
   */
  mix(logits, states, rows, memory) {
    const width = this.query.inputs;
    const size = logits.length / rows;
    memory.copyKeys ??= product(memory.states, memory.count, this.key);
    const query = product(states, rows, this.query);
    logSoftmax(logits, size);
    for (let r = 0; r < rows; r++) {
      const weights = new Float64Array(memory.count);
      for (let j = 0; j < memory.count; j++) {
        for (let c = 0; c < width; c++) weights[j] += query[r * width + c] * memory.copyKeys[j * width + c];
        weights[j] /= Math.sqrt(width);
      }
      logSoftmax(weights, memory.count);
      const both = new Float32Array(2 * width);
      both.set(states.subarray(r * width, (r + 1) * width));
      for (let j = 0; j < memory.count; j++) {
        weights[j] = Math.exp(weights[j]);
        for (let c = 0; c < width; c++) both[width + c] += weights[j] * memory.states[j * width + c];
      }
      const gate = 1 / (1 + Math.exp(-product(both, 1, this.gate)[0]));
      const row = logits.subarray(r * size, (r + 1) * size);
      for (let v = 0; v < size; v++) row[v] = Math.exp(row[v]) * gate;
      memory.ids.forEach((id, j) => (row[id] += weights[j] * (1 - gate)));
      for (let v = 0; v < size; v++) row[v] = Math.log(row[v] + TINY);
    }
    return logits;
  }
}
