/**
 * How a word reads the stream, carried backwards from the output matrix to the embedding. A norm is held at the
 * deviation that it had, which makes it linear.
 */
export class Reading {
  /** @param {Float32Array} weight [C], the word's row of the output matrix */
  constructor(weight) {
    this.vector = Float64Array.from(weight);
    /** what the norms' biases brought */
    this.bias = 0;
    this.hasBias = false;
  }

  /** What is read of a vector. @param {ArrayLike<number>} x [C] */
  of(x) {
    let sum = 0;
    for (let c = 0; c < this.vector.length; c++) sum += this.vector[c] * x[c];
    return sum;
  }

  /**
   * From behind a norm to in front of it.
   * @param {import("./layers.js").NormLayer | null} norm
   * @param {Float32Array} x [C] what the norm was given
   */
  norm(norm, x) {
    if (norm === null) return;
    const { vector } = this;
    const width = vector.length;
    const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / width;
    if (norm.bias) {
      this.bias += this.of(norm.bias);
      this.hasBias = true;
    }
    const middle = norm.centred ? mean(Float64Array.from(x)) : 0;
    const share = 1 / Math.sqrt(mean(Float64Array.from(x, (each) => (each - middle) ** 2)) + norm.eps);
    for (let c = 0; c < width; c++) vector[c] *= norm.weight[c];
    const level = norm.centred ? mean(vector) : 0;
    for (let c = 0; c < width; c++) vector[c] = (vector[c] - level) * share;
  }

  /**
   * What is read of each head, through the output's projection.
   * @param {import("./products.js").Linear} output
   * @param {Float32Array} context [H·D]
   * @param {number} heads
   * @returns {number[]}
   */
  heads({ weight, inputs, outputs }, context, heads) {
    const width = inputs / heads;
    const values = Array.from({ length: heads }, () => 0);
    for (let o = 0; o < outputs; o++) {
      const read = this.vector[o];
      for (let i = 0; i < inputs; i++) values[Math.floor(i / width)] += read * weight[o * inputs + i] * context[i];
    }
    return values;
  }
}
