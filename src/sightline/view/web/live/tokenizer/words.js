import { expect, refuse } from "./refuse.js";

/** Whole words; what is not in the vocabulary is unknown. */
export class WordModel {
  /** @param {any} part `model` of tokenizer.json */
  constructor(part) {
    const { vocab, unk_token: unknown, ...options } = part;
    expect("model", options, {});
    /** @type {Map<string, number>} */
    this.ids = new Map(Object.entries(vocab));
    this.unknown = this.ids.get(unknown) ?? refuse("model.unk_token", unknown, "one in its vocabulary");
  }

  /** @param {string} word @returns {number[]} one id */
  encode(word) {
    return [this.ids.get(word) ?? this.unknown];
  }
}
