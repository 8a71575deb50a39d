import { Capture } from "./capture.js";
import { Changes } from "./changes.js";
import { write } from "./generate.js";
import { logSoftmax } from "./heads.js";
import { placesOfLargest } from "./largest.js";
import { LiveLens } from "./lens.js";
import { TextModel } from "./model.js";
import { idsGiven, textWritten, unknownNotices } from "./tasks.js";
import { tokensOf } from "./tokenizer/labels.js";
import { createTokenizer } from "./tokenizer/tokenizer.js";
import { LiveTrace } from "./trace.js";
import { readWeights } from "./weights.js";
import { changedRun, effectsOfHeads } from "./whatif.js";

/**
 * A token that was written: how likely it was, and what else was.
 * @typedef {{token: string, text: string, p: number, top: {token: string, text: string, p: number}[]}} WrittenToken
 *
 * What came out of a run.
 * @typedef {object} LiveOutput
 * @property {import("./tasks.js").LiveTask["answer"]} kind
 * @property {string} name "translation", "summary", "continuation", "label"
 * @property {string} text the text that was written, or the likeliest label
 * @property {number[]} ids of what was written, with the one that ends it
 * @property {string[]} tokens of what was written, as pieces of the vocabulary
 * @property {number | null} score of what was written, Σ ln p, of a search divided by length^penalty
 * @property {WrittenToken[]} steps
 * @property {{label: string, p: number}[]} labels the likeliest first
 * @property {string[]} notices what the reader ought to know
 * @property {number} ms how long it took to write it
 */

const ALTERNATIVES = 8; // likeliest tokens that are told of each step
const ASKED = ["open", "warm", "run", "score", "whatIf", "effects", "forget"];
const WARMING = 12; // tokens that are written to warm up

/** A model and what it has made of texts: answers what the page asks, as `createAnswerer` passes it on. */
export class LiveSession {
  constructor() {
    /** @type {Map<string, LiveTrace>} */
    this.traces = new Map();
    /** @type {TextModel | null} */
    this.model = null;
  }

  /**
   * @param {any} asked what is in ASKED, or about a trace what Answers takes
   * @param {(share: number) => Promise<void>} pause
   * @param {(told: any) => void} tell
   */
  answer(asked, pause, tell) {
    if (ASKED.includes(asked.what)) return this[asked.what](asked, pause, tell);
    const trace = this.traces.get(asked.trace);
    if (!trace) throw new Error("This run is no longer kept: type its text once more.");
    return trace.answer(asked, pause);
  }

  /** The model, its tokenizer and what it is for. */
  async open({ described, weights, tokenizer }, pause) {
    const parameters = await readWeights(weights);
    await pause(NaN);
    this.model = new TextModel(described, parameters);
    this.tokenizer = createTokenizer(tokenizer);
    this.task = described.task;
    return { opened: true };
  }

  /**
   * The model runs once, for nobody: a browser compiles what runs often, and a reader's first text should not wait for
   * that.
   * @param {{text: string}} asked
   */
  async warm({ text }, pause) {
    const given = idsGiven(text, this.tokenizer, this.task, this.model.config);
    const nothing = new Changes([]);
    const { ids } = await this.written(given, nothing, pause, () => {}, WARMING);
    this.whole(given, ids, { changes: nothing, capture: new Capture() });
    return { warmed: true };
  }

  /** @param {{trace: string}} asked */
  forget({ trace }) {
    return { forgotten: this.traces.delete(trace) };
  }

  /**
   * The model runs over a text, and a trace is kept of it.
   * @param {{text: string, changes?: any[], trace: string, title: string, like: import("../source/types.js").About}} asked
   */
  async run({ text, changes = [], trace, title, like }, pause, tell) {
    const begun = performance.now();
    const { model, tokenizer, task } = this;
    const acting = new Changes(changes);
    const given = idsGiven(text, tokenizer, task, model.config);
    const written = await this.written(given, acting, pause, tell);
    const took = performance.now() - begun;
    const capture = new Capture();
    const { logits, target } = this.whole(given, written.ids, { changes: acting, capture });
    await pause(NaN);
    const output = { ...this.output(written, logits, given), ms: took };
    const tokens = { source: this.tokensOf(given.source), target: this.tokensOf(target) };
    const notices = [...given.notices, ...unknownNotices(tokens.source ?? tokens.target)];
    const lens = LiveLens.of(model, capture, target ?? given.source, (id) => this.tokensOf([id]).texts[0], task.labels);
    const kept = new LiveTrace(capture, tokens, lens);
    this.traces.set(trace, kept);
    const texts = task.answer === "label" || task.answer === "states" ? [text] : [text, output.text];
    return { about: kept.about({ id: trace, title, texts, notices, output: outputShown(output) }, like), sides: kept.sides, output: { ...output, notices } };
  }

  /** The same tokens with changes; see whatif.js. */
  whatIf(asked, pause) {
    return changedRun(this, asked, pause);
  }

  /** What each head does to the answer; see whatif.js. */
  effects(asked, pause, tell) {
    return effectsOfHeads(this, asked, pause, tell);
  }

  /** What is written, if the model writes, and at most so many tokens; the page hears of each step. */
  async written({ source, target }, changes, pause, tell, most = Infinity) {
    const { model, tokenizer, task } = this;
    if (!target) return { ids: [], score: null };
    const watch = { changes, capture: null };
    const memory = source ? model.encode(source, watch) : null;
    await pause(NaN);
    const room = model.config.positions === "learned" ? model.config.max_positions - target.length + 1 : Infinity;
    const options = { ...task.writing, newTokens: Math.min(task.writing.newTokens, room, most) };
    const heard = async (ids) => {
      tell({ text: textWritten(ids, tokenizer, task), count: ids.length });
      await pause(NaN);
    };
    return write(model, memory, target, options, heard, watch);
  }

  /** All positions at once: what the page shows, and the logits behind what was written, or of the labels. */
  whole({ source, target }, written, watch) {
    const { model } = this;
    const memory = source ? model.encode(source, watch) : null;
    if (!target) return { logits: model.logits(memory.states, memory.count), target: null };
    // The last token that was written may stand where no learned position is; nothing came after it.
    const room = model.config.positions === "learned" ? model.config.max_positions : Infinity;
    const ids = [...target, ...written].slice(0, room);
    const states = model.decode(ids, memory, watch);
    const { width } = model.config;
    const from = target.length - 1;
    const rows = states.subarray(from * width, (from + written.length) * width);
    return { logits: logSoftmax(model.logits(rows, written.length, memory), model.config.vocabulary), target: ids };
  }

  /** @returns {Omit<LiveOutput, "ms" | "notices">} */
  output({ ids, score }, logits, { target }) {
    const { task, tokenizer, model } = this;
    const base = { kind: task.answer, name: task.name, ids, score, tokens: ids.map((id) => tokenizer.tokenOf(id)) };
    if (target) {
      const size = model.config.vocabulary;
      const steps = ids.map((id, at) => this.step(id, logits.subarray(at * size, (at + 1) * size)));
      return { ...base, text: textWritten(ids, tokenizer, task), steps, labels: [] };
    }
    const labels = task.answer === "label" ? this.labels(logits) : [];
    return { ...base, text: labels[0]?.label ?? "", steps: [], labels };
  }

  /** @param {number} id @param {Float32Array} logP [V] @returns {WrittenToken} */
  step(id, logP) {
    const named = (each) => {
      const token = this.tokenizer.tokenOf(each);
      return { token, text: tokensOf([token]).texts[0], p: Math.exp(logP[each]) };
    };
    return { ...named(id), top: placesOfLargest(logP, ALTERNATIVES).map(named) };
  }

  /** Labels with their probabilities, the likeliest first. */
  labels(logits) {
    const p = logSoftmax(Float32Array.from(logits), logits.length).map(Math.exp);
    const labels = this.task.labels;
    return Array.from(p, (each, at) => ({ label: labels[at] ?? String(at), p: each })).sort((a, b) => b.p - a.p);
  }

  /** @param {number[] | null} ids @returns {ReturnType<typeof tokensOf> | null} */
  tokensOf(ids) {
    return ids && tokensOf(ids.map((id) => this.tokenizer.tokenOf(id) ?? `#${id}`));
  }

  /**
   * How likely an answer is under changes: the mean of ln p of the tokens of `ids` as what is written for a text, or
   * ln p of a label by its number. Nothing is written and no trace is kept, so that many can be asked.
   * @param {{text: string, ids?: number[], label?: number, changes?: any[]}} asked
   */
  async score({ text, ids = [], label = 0, changes = [] }, pause) {
    const { model, tokenizer, task } = this;
    const watch = { changes: new Changes(changes), capture: null };
    const given = idsGiven(text, tokenizer, task, model.config);
    const { logits, target } = this.whole(given, ids, watch);
    await pause(NaN);
    if (!target) return { score: logSoftmax(Float32Array.from(logits), logits.length)[label] };
    const size = model.config.vocabulary;
    return { score: ids.reduce((sum, id, at) => sum + logits[at * size + id], 0) / ids.length };
  }
}

const SHOWN = 5; // labels that the page tells of

/**
 * What came out as the page shows it.
 * @param {any} output
 * @returns {import("../source/types.js").Output | null}
 */
function outputShown({ kind, name, text, labels }) {
  if (kind === "states") return null;
  const choices = labels.slice(0, SHOWN).map(({ label, p }) => ({ text: label, probability: p }));
  const shown = /** @type {"label" | "text"} */ (kind === "label" ? "label" : "text");
  return { kind: shown, name, text, given: false, choices };
}
