import { COMPOSING_CLASS, lowerCases } from "./characters.js";
import { expect, refuse } from "./refuse.js";

/** @typedef {(text: string) => string} Normalizer */

/** @param {any} part `normalizer` of tokenizer.json @returns {Normalizer} */
export function normalizerOf(part) {
  if (part === null || part === undefined) return (text) => text;
  if (part.type === "NFC") {
    expect("normalizer", part, {});
    return composer();
  }
  if (part.type === "Lowercase") {
    expect("normalizer", part, {});
    return lowerer();
  }
  if (part.type === "Sequence") {
    expect("normalizer", part, { normalizers: undefined });
    const steps = part.normalizers.map(normalizerOf);
    return (text) => steps.reduce((done, step) => step(done), text);
  }
  return refuse("normalizer.type", part.type, "NFC, Lowercase, Sequence");
}

/**
 * Canonical composition, of the characters alone that the library's own table knows: for it, a character that
 * came later neither moves nor joins with others.
 * @returns {Normalizer}
 */
function composer() {
  const composing = new RegExp(`[${COMPOSING_CLASS}]+`, "gu");
  return (text) => (isLatin1(text) ? text : text.replace(composing, (part) => part.normalize("NFC")));
}

/** Each character by itself: a sigma at a word's end is one like any other. @returns {Normalizer} */
function lowerer() {
  const lower = lowerCases();
  return (text) => Array.from(text, (character) => lower.get(character) ?? character).join("");
}

/** Composition leaves these as they are. @param {string} text */
const isLatin1 = (text) => !/[^\0-\xff]/.test(text);
