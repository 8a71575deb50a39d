/** @typedef {import("./products.js").Linear} Linear */

/** The weights of a model by their names in its `state_dict`. */
export class Parameters {
  /** @param {Map<string, {data: Float32Array, shape: number[]}>} tensors */
  constructor(tensors) {
    this.tensors = tensors;
  }

  /** @param {string} name */
  has(name) {
    return this.tensors.has(name);
  }

  /** @param {string} name @returns {{data: Float32Array, shape: number[]}} */
  get(name) {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new Error(`The weights of this page lack ${name}.`);
    return tensor;
  }

  /** @param {string} name @returns {Float32Array | null} */
  optional(name) {
    return this.has(name) ? this.get(name).data : null;
  }

  /** @param {string} name of a linear layer @returns {Linear} */
  linear(name) {
    const { data, shape } = this.get(`${name}.weight`);
    return { weight: data, bias: this.optional(`${name}.bias`), outputs: shape[0], inputs: shape[1] };
  }

  /**
   * A layer norm, or an RMS norm, which has no bias.
   * @param {string} name
   * @param {{norm: string, norm_eps: number}} config
   * @returns {import("./layers.js").NormLayer}
   */
  norm(name, { norm, norm_eps }) {
    return { centred: norm === "layer", eps: norm_eps, weight: this.get(`${name}.weight`).data, bias: this.optional(`${name}.bias`) };
  }
}
