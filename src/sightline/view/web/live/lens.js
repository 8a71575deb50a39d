import { ClassLogits, MaskedLogits, PositionLogits, TokenLogits } from "./heads.js";
import { placesOfLargest } from "./largest.js";
import { normed } from "./layers.js";
import { addInPlace, product } from "./products.js";
import { Reading } from "./reading.js";

/** @typedef {import("../source/types.js").StageInfo} StageInfo */
/** @typedef {import("../source/types.js").PartInfo} PartInfo */

const WORDS = 5; // of each stage
const COPYING = "Words that are copied from the source are not in it: it is what the decoder would write by itself.";
const MEAN = "The logit of a label is the mean over all tokens of what each says by itself.";
const FIRST = "The model reads the vector of its first token alone; others are read as that one is.";
const NOT_LINEAR =
  "Who brought a word cannot be said here: the head of a masked-token model is not linear (a layer with an activation stands before its output matrix), so that a logit is no sum over parts.";

/**
 * What the vectors of a run say in words: the logit lens (nostalgebraist 2020), and what each part brought to the word
 * that comes out (Elhage et al. 2021), as sightline.attribution computes them. Each position is computed anew from
 * what enters the stack and what the heads gave there.
 */
export class LiveLens {
  /**
   * @param {import("./model.js").TextModel} model
   * @param {import("./capture.js").Capture} capture
   * @param {number[]} ids of the positions
   * @param {(id: number) => string} nameOf a token
   */
  constructor(model, capture, ids, nameOf) {
    const stack = model.decoder ?? model.encoder;
    this.model = model;
    this.stack = stack;
    this.ids = ids;
    this.nameOf = nameOf;
    this.embedding = model.decoder ? model.targetEmbedding : model.embedding;
    this.start = capture.residual[stack.name][0];
    /** @type {Map<string, Float32Array>} contexts [N, H·D] of each call, by the name of its module */
    this.contexts = new Map(capture.calls.map(({ name, contexts }) => [name, contexts]));
    /** the output matrix; null where it alone does not make the logits */
    this.matrix = matrixOf(model.head);
  }

  /**
   * Null for a model that ends neither in words nor in labels.
   * @param {import("./model.js").TextModel} model
   * @param {import("./capture.js").Capture} capture
   * @param {number[] | null} ids
   * @param {(id: number) => string} nameOf
   * @param {string[]} labels
   */
  static of(model, capture, ids, nameOf, labels) {
    if (!ids || !(matrixOf(model.head) || model.head instanceof MaskedLogits)) return null;
    return new LiveLens(model, capture, ids, readsOf(model.head) === "words" ? nameOf : (id) => labels[id] ?? `#${id}`);
  }

  /** @returns {import("../source/types.js").LensInfo} */
  about() {
    const { stack, model } = this;
    const crosses = stack.blocks.some(({ cross }) => cross);
    const layers = stack.blocks.map((_, layer) => layer);
    const place = (section) => ({ section, layers });
    return {
      sections: crosses ? [stack.name, "cross"] : [stack.name],
      reads: readsOf(model.head),
      count: this.ids.length,
      stages: stagesOf(stack),
      parts: this.matrix ? this.partsAt(0, this.ids[0]).map(({ name, layer, head, kind }) => ({ name, layer, head, kind })) : null,
      heads: crosses ? { head: place(stack.name), "cross head": place("cross") } : { head: place(stack.name) },
      notes: [...notesOf(model), ...(this.matrix ? [] : [NOT_LINEAR])],
    };
  }

  /** @param {number} position @returns {import("../source/types.js").Lens} */
  at(position) {
    const states = this.stream(position).states;
    const width = states[0].length;
    const all = new Float32Array(states.length * width);
    states.forEach((state, at) => all.set(state, at * width));
    const ends = normed(all, this.stack.norm);
    const logits = this.matrix ? product(ends, states.length, this.matrix) : this.model.head.forward(ends, states.length);
    const size = logits.length / states.length;
    const rows = states.map((_, at) => logits.subarray(at * size, (at + 1) * size));
    const last = rows[rows.length - 1];
    const [word] = placesOfLargest(last, 1);
    const parts = this.matrix ? this.partsAt(position, word).map(({ value }) => value) : null;
    return { position, word: { text: this.nameOf(word), logit: last[word] }, stages: rows.map((row) => this.stage(row, word)), parts };
  }

  /** @param {Float32Array} logits [V] @param {number} word @returns {import("../source/types.js").LensStage} */
  stage(logits, word) {
    const best = placesOfLargest(logits, WORDS);
    const most = logits[best[0]];
    let [sum, rank] = [0, 1];
    for (const logit of logits) {
      sum += Math.exp(logit - most);
      if (logit > logits[word]) rank += 1;
    }
    const share = (id) => Math.exp(logits[id] - most) / sum;
    return { words: best.map((id) => ({ text: this.nameOf(id), probability: share(id) })), rank, probability: share(word) };
  }

  /**
   * The stream of a position at every stage, and what was added on the way.
   * @param {number} position
   */
  stream(position) {
    const { stack } = this;
    const width = this.start.length / this.ids.length;
    let x = this.start.slice(position * width, (position + 1) * width);
    const states = [x];
    const steps = stack.blocks.map((block) => {
      const halves = [[block.own, block.ownNorm], ...(block.cross ? [[block.cross, block.crossNorm]] : [])].map(([attention, norm]) => {
        const all = this.contexts.get(attention.name);
        const row = all.length / this.ids.length;
        const context = all.subarray(position * row, (position + 1) * row);
        const sum = addInPlace(product(context, 1, attention.output), x);
        x = block.normFirst ? sum : normed(sum, norm);
        states.push(x);
        return { attention, norm, context, sum };
      });
      const added = block.feedForward.forward(block.normFirst ? normed(x, block.feedForwardNorm) : x, 1);
      const sum = addInPlace(Float32Array.from(added), x);
      x = block.normFirst ? sum : normed(sum, block.feedForwardNorm);
      states.push(x);
      return { block, halves, added, sum };
    });
    return { states, steps };
  }

  /**
   * What each part brought to the logit of a word, in the order of the stream.
   * @param {number} position
   * @param {number} word
   * @returns {(PartInfo & {value: number})[]}
   */
  partsAt(position, word) {
    const { states, steps } = this.stream(position);
    const { weight, bias, inputs } = this.matrix;
    const reading = new Reading(weight.subarray(word * inputs, (word + 1) * inputs));
    /** @type {(PartInfo & {value: number})[]} */
    const written = [];
    const part = (name, layer, head, kind, value) => written.unshift({ name, layer, head, kind, value });
    reading.norm(this.stack.norm, states[states.length - 1]);
    for (let layer = steps.length - 1; layer >= 0; layer--) {
      const { block, halves, added, sum } = steps[layer];
      if (!block.normFirst) reading.norm(block.feedForwardNorm, sum);
      part(`layer ${layer} feed-forward`, layer, null, "feed-forward", reading.of(added));
      for (const half of halves.reverse()) {
        if (!block.normFirst) reading.norm(half.norm, half.sum);
        const cross = half.attention.call.section === "cross" ? "cross " : "";
        const { output, call } = half.attention;
        if (output.bias) part(`layer ${layer} ${cross}output bias`, layer, null, `${cross}output bias`, reading.of(output.bias));
        const values = reading.heads(output, half.context, call.heads);
        for (let head = call.heads - 1; head >= 0; head--) part(`layer ${layer} ${cross}head ${head}`, layer, head, `${cross}head`, values[head]);
      }
    }
    const start = this.embedding.partsOf(this.ids[position], position);
    const whole = start.map(({ vector }) => vector).reduce((sum, vector) => addInPlace(sum, vector), new Float32Array(inputs));
    reading.norm(this.embedding.norm, whole);
    const first = start.map(({ name, vector }) => ({ name, layer: null, head: null, kind: name, value: reading.of(vector) }));
    const lone = (name, value) => ({ name, layer: null, head: null, kind: name, value });
    const biases = [...(reading.hasBias ? [lone("norm biases", reading.bias)] : []), ...(bias ? [lone(`${readsOf(this.model.head).slice(0, -1)} bias`, bias[word])] : [])];
    return [...first, ...written, ...biases];
  }
}

/** The matrix that alone makes logits of vectors; null where more does. @param {any} head @returns {import("./products.js").Linear | null} */
function matrixOf(head) {
  if (head instanceof TokenLogits) return head.layer;
  return head instanceof PositionLogits || (head instanceof ClassLogits && !head.pooler) ? head.classes : null;
}

/** @param {any} head @returns {"words" | "labels"} */
function readsOf(head) {
  return head instanceof ClassLogits || head instanceof PositionLogits ? "labels" : "words";
}

/** @param {import("./model.js").TextModel} model */
function notesOf({ copying, head }) {
  if (head instanceof ClassLogits) return [head.pooling === "first" ? FIRST : MEAN];
  return copying ? [COPYING] : [];
}

/** @param {import("./stack.js").Stack} stack @returns {StageInfo[]} */
function stagesOf(stack) {
  const stages = [{ name: "embedding", layer: null, kind: "embedding" }];
  stack.blocks.forEach(({ cross }, layer) => {
    for (const kind of ["attention", ...(cross ? ["cross-attention"] : []), "feed-forward"]) stages.push({ name: `layer ${layer} ${kind}`, layer, kind });
  });
  return stages;
}
