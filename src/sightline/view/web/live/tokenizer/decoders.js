import { bytesOf } from "./bytes.js";
import { expect, refuse } from "./refuse.js";

/**
 * Puts tokens together as a text.
 * @typedef {(tokens: string[]) => string} Decoder
 */

/** @param {any} part `decoder` of tokenizer.json @returns {Decoder} */
export function decoderOf(part) {
  if (part === null || part === undefined) return (tokens) => tokens.join(" ");
  const make = KINDS[part.type];
  return make ? make(part) : refuse("decoder.type", part.type, Object.keys(KINDS).join(", "));
}

/** @type {Object<string, (part: any) => Decoder>} */
const KINDS = {
  /** Marks are blanks; those of the first token were not in the text. */
  Metaspace(part) {
    expect("decoder", part, { replacement: "\u2581", prepend_scheme: "always", split: undefined });
    return (tokens) => tokens.map((token, at) => token.replaceAll("\u2581", at ? " " : "")).join("");
  },

  ByteLevel(part) {
    expect("decoder", part, { add_prefix_space: undefined, trim_offsets: undefined, use_regex: undefined });
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return (tokens) => decoder.decode(Uint8Array.from(tokens.flatMap((token) => [...bytesOf(token)])));
  },

  Fuse(part) {
    expect("decoder", part, {});
    return (tokens) => tokens.join("");
  },
};
