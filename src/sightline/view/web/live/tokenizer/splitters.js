import { spelled } from "./bytes.js";
import { BLANK_CLASS, LETTER_CLASS, NUMBER_CLASS, PUNCTUATION_CLASS } from "./characters.js";
import { expect, refuse } from "./refuse.js";

/**
 * Cuts a text into words.
 * @typedef {(text: string) => string[]} Splitter
 */

/** @param {any} part `pre_tokenizer` of tokenizer.json @returns {Splitter} */
export function splitterOf(part) {
  if (part === null || part === undefined) return (text) => [text];
  const make = KINDS[part.type];
  return make ? make(part) : refuse("pre_tokenizer.type", part.type, Object.keys(KINDS).join(", "));
}

/** @type {Object<string, (part: any) => Splitter>} */
const KINDS = {
  Sequence(part) {
    expect("pre_tokenizer", part, { pretokenizers: undefined });
    const steps = part.pretokenizers.map(splitterOf);
    return (text) => steps.reduce((words, step) => words.flatMap(step), [text]);
  },

  /** A mark for each blank, one more before the text, and a word from each mark on. */
  Metaspace(part) {
    expect("pre_tokenizer", part, { replacement: "\u2581", prepend_scheme: "always", split: true });
    return (text) => {
      const marked = text.replaceAll(" ", "\u2581");
      return (marked.startsWith("\u2581") ? marked : `\u2581${marked}`).split(/(?=\u2581)/);
    };
  },

  Punctuation(part) {
    expect("pre_tokenizer", part, { behavior: "Isolated" });
    const words = new RegExp(`[${PUNCTUATION_CLASS}]|[^${PUNCTUATION_CLASS}]+`, "gu");
    return (text) => text.match(words) ?? [];
  },

  BertPreTokenizer(part) {
    expect("pre_tokenizer", part, {});
    const words = new RegExp(`[${PUNCTUATION_CLASS}]|[^${PUNCTUATION_CLASS}${BLANK_CLASS}]+`, "gu");
    return (text) => text.match(words) ?? [];
  },

  /** GPT-2's words, in letters that stand for bytes. */
  ByteLevel(part) {
    // trim_offsets is about offsets, which nobody asks for here.
    expect("pre_tokenizer", part, { add_prefix_space: false, trim_offsets: undefined, use_regex: true });
    const [L, N, S] = [LETTER_CLASS, NUMBER_CLASS, BLANK_CLASS];
    const ends = "'(?:s|t|re|ve|m|ll|d)";
    const words = new RegExp(`${ends}| ?[${L}]+| ?[${N}]+| ?[^${S}${L}${N}]+|[${S}]+(?![^${S}])|[${S}]+`, "gu");
    return (text) => (text.match(words) ?? []).map(spelled);
  },

  /** Every character for itself. */
  Split(part) {
    expect("pre_tokenizer", part, { pattern: undefined, behavior: "Isolated", invert: false });
    if (part.pattern?.Regex !== "[\\s\\S]") refuse("pre_tokenizer.pattern", part.pattern, '{"Regex":"[\\\\s\\\\S]"}');
    return (text) => Array.from(text);
  },
};
