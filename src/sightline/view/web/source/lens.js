import { readTensor } from "../compute/tensor.js";

/**
 * What a page carries of every position's words: N positions, S stages, k words, P parts.
 * @typedef {object} CarriedWords
 * @property {string[]} names
 * @property {import("../compute/tensor.js").TensorRef} words [N,S,k] places among the names
 * @property {import("../compute/tensor.js").TensorRef} probabilities [N,S,k]
 * @property {import("../compute/tensor.js").TensorRef} final [N] the word that comes out
 * @property {import("../compute/tensor.js").TensorRef} ranks [N,S] of that word
 * @property {import("../compute/tensor.js").TensorRef} ofFinal [N,S] its probability
 * @property {import("../compute/tensor.js").TensorRef} logits [N] its logit at the end
 * @property {import("../compute/tensor.js").TensorRef} [parts] [N,P] what each part brought to it
 */

/** Words of positions, decoded once. */
export class LensReader {
  /**
   * @param {CarriedWords} carried
   * @param {(id: string) => string} textOf base64 text of a tensor
   */
  constructor(carried, textOf) {
    this.names = carried.names;
    this.stages = carried.words.shape[1];
    this.k = carried.words.shape[2];
    const read = (ref) => readTensor(ref, textOf);
    this.words = read(carried.words);
    this.probabilities = read(carried.probabilities);
    this.final = read(carried.final);
    this.ranks = read(carried.ranks);
    this.ofFinal = read(carried.ofFinal);
    this.logits = read(carried.logits);
    this.parts = carried.parts ? read(carried.parts) : null;
    this.width = carried.parts?.shape[1] ?? 0;
  }

  /** @param {number} position @returns {import("./types.js").Lens} */
  at(position) {
    const stages = Array.from({ length: this.stages }, (_, stage) => this.stage(position * this.stages + stage));
    const own = this.parts?.slice(position * this.width, (position + 1) * this.width);
    const word = { text: this.names[this.final[position]], logit: this.logits[position] };
    return { position, word, stages, parts: own ? Array.from(own) : null };
  }

  /** @param {number} at @returns {import("./types.js").LensStage} */
  stage(at) {
    const from = at * this.k;
    const words = Array.from({ length: this.k }, (_, i) => ({ text: this.names[this.words[from + i]], probability: this.probabilities[from + i] }));
    return { words, rank: this.ranks[at], probability: this.ofFinal[at] };
  }
}
