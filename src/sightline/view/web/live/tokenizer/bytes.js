/**
 * The alphabet of byte-level vocabularies: a letter for each of the 256 bytes.
 *
 * Source: Radford et al. 2019, "Language models are unsupervised multitask learners".
 */

/** @param {number} from @param {number} to included */
const span = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

const OWN = [...span(33, 126), ...span(161, 172), ...span(174, 255)]; // bytes that are their own letters
const OTHERS = span(0, 255).filter((byte) => !OWN.includes(byte));

/** @type {string[]} the letter of each byte */
export const LETTER_OF = [];
for (const byte of OWN) LETTER_OF[byte] = String.fromCharCode(byte);
for (const [at, byte] of OTHERS.entries()) LETTER_OF[byte] = String.fromCharCode(256 + at);

/** @type {Map<string, number>} */
export const BYTE_OF = new Map(LETTER_OF.map((letter, byte) => [letter, byte]));

const encoder = new TextEncoder();

/** A text's bytes, in letters. @param {string} text */
export const spelled = (text) => Array.from(encoder.encode(text), (byte) => LETTER_OF[byte]).join("");

/** Whether every letter stands for a byte. @param {string} piece */
export const isSpelled = (piece) => Array.from(piece).every((letter) => BYTE_OF.has(letter));

/** The bytes of a piece; of one that is not in the alphabet, those of its own letters. @param {string} piece */
export function bytesOf(piece) {
  return isSpelled(piece) ? Uint8Array.from(Array.from(piece, (letter) => BYTE_OF.get(letter))) : encoder.encode(piece);
}
