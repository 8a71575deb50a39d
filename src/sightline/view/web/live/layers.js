import { product } from "./products.js";

/**
 * @typedef {object} NormLayer
 * @property {boolean} centred whether the mean is taken off: a layer norm; else an RMS norm
 * @property {number} eps
 * @property {Float32Array} weight [C]
 * @property {Float32Array | null} bias [C]
 */

/**
 * Each row of x [R,C] normed, as a new array; x itself without a norm.
 * @param {Float32Array} x
 * @param {NormLayer | null} layer
 * @returns {Float32Array}
 */
export function normed(x, layer) {
  if (layer === null) return x;
  const { weight, bias } = layer;
  const width = weight.length;
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    let mean = 0;
    if (layer.centred) {
      for (let c = 0; c < width; c++) mean += x[at + c];
      mean /= width;
    }
    let square = 0;
    for (let c = 0; c < width; c++) square += (x[at + c] - mean) ** 2;
    const share = 1 / Math.sqrt(square / width + layer.eps);
    for (let c = 0; c < width; c++) out[at + c] = (x[at + c] - mean) * share * weight[c] + (bias ? bias[c] : 0);
  }
  return out;
}

/** erf to 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26). @param {number} x */
function erf(x) {
  const size = Math.abs(x);
  const t = 1 / (1 + 0.3275911 * size);
  const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - tail * Math.exp(-size * size));
}

const gelu = (x) => 0.5 * x * (1 + erf(x / Math.SQRT2));
const silu = (x) => x / (1 + Math.exp(-x));

/** By the names of a configuration; the last two have a gate. */
const ACTIVATIONS = {
  gelu,
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(0, x),
  silu,
  swiglu: silu,
  geglu: gelu,
};

/**
 * Of x in place.
 * @param {Float32Array} x
 * @param {string} name
 */
export function activate(x, name) {
  const act = ACTIVATIONS[name];
  for (let at = 0; at < x.length; at++) x[at] = act(x[at]);
  return x;
}

/** act(x·W₁)·W₂, or with a gate (act(x·Wg) ⊙ x·W₁)·W₂. */
export class FeedForward {
  /** @param {import("./parameters.js").Parameters} parameters @param {string} name @param {{activation: string}} config */
  constructor(parameters, name, { activation }) {
    this.activation = activation;
    this.gate = parameters.has(`${name}.gate.weight`) ? parameters.linear(`${name}.gate`) : null;
    this.input = parameters.linear(`${name}.input`);
    this.output = parameters.linear(`${name}.output`);
  }

  /** @param {Float32Array} x [R,C] @param {number} rows */
  forward(x, rows) {
    const inner = product(x, rows, this.input);
    if (!this.gate) return product(activate(inner, this.activation), rows, this.output);
    const gate = activate(product(x, rows, this.gate), this.activation);
    for (let at = 0; at < inner.length; at++) inner[at] *= gate[at];
    return product(inner, rows, this.output);
  }
}
