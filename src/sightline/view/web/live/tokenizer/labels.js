import { bytesOf, isSpelled } from "./bytes.js";

/**
 * Pieces of a vocabulary as labels that can be seen, and as words: reading/tokens.py and reading/pieces.py say
 * the same in Python.
 */

const SPECIAL = /^(?:\[[A-Z]+\d*\]|<\/?[\p{L}\p{N}_ ]+>|<\|.*\|>)$/u;
const UNKNOWN = new Set(["<unk>", "<UNK>", "[UNK]", "<|unk|>", "<unknown>"]);
const FALLBACK = /^<0x([0-9A-Fa-f]{2})>$/;
const SPACE_MARKS = ["\u0120", "\u2581", " "];
const BLANK = "\u2423";
// Without line ends and tabs, which are shown.
const BLANKS = "[\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const OUTER_BLANKS = new RegExp(`^${BLANKS}|${BLANKS}$`, "g");
const UNSEEN = /^[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Zl}\p{Zp}\p{Zs}\ufe00-\ufe0f]*$/u;
const LINE = /[\r\n\t]/;

/**
 * @param {string[]} pieces strings of a vocabulary
 * @returns {import("../../source/types.js").Tokens & {unknown: boolean[]}}
 */
export function tokensOf(pieces) {
  const marked = pieces.some((piece) => SPACE_MARKS.some((mark) => piece.startsWith(mark)));
  const special = pieces.map((piece) => SPECIAL.test(piece) && !FALLBACK.test(piece));
  const byteLevel = areByteLevel(pieces.filter((_, at) => !special[at]));
  const texts = pieces.map((piece) => textOf(piece, byteLevel));
  const [words, glued] = [[], []];
  let word = -1;
  for (const [at, piece] of pieces.entries()) {
    const joins = marked ? !SPACE_MARKS.some((mark) => piece.startsWith(mark)) : piece.startsWith("##");
    const begins = at === 0 || !joins || special[at] || special[at - 1];
    if (begins || isAtLineEnd(texts, at)) word += 1;
    words.push(word);
    glued.push(!begins);
  }
  const labels = pieces.map((piece, at) => (special[at] ? piece : visible(texts[at])));
  return { texts: labels, words, special, glued, unknown: pieces.map((piece) => UNKNOWN.has(piece)) };
}

/** Whether a line end or a tab stands on one side of a token's start only. @param {string[]} texts @param {number} at */
function isAtLineEnd(texts, at) {
  return at > 0 && LINE.test(texts[at - 1].slice(-1)) !== LINE.test(texts[at].slice(0, 1));
}

/** The text of one piece, with its blanks; bytes that make no whole character as ⟨e4 bd⟩. @param {string} piece @param {boolean} byteLevel */
function textOf(piece, byteLevel) {
  const fallback = FALLBACK.exec(piece);
  if (fallback) return decoded(Uint8Array.of(parseInt(fallback[1], 16)));
  if (byteLevel && isSpelled(piece)) return decoded(bytesOf(piece));
  return piece.replace(/\u2581|^\u0120|\u0120$/g, " ").replaceAll("\u010a", "\n");
}

/**
 * Whether pieces are written in the alphabet of bytes: all letters are of it, and there is a mark of a blank or
 * of a line end among them, or what they spell has characters beyond ASCII.
 * @param {string[]} pieces
 */
function areByteLevel(pieces) {
  const whole = pieces.join("");
  if (!isSpelled(whole)) return false;
  if (/[\u0120\u010a]/.test(whole)) return true;
  const parts = partsOf(bytesOf(whole));
  // A window may cut a character at its ends.
  if (typeof parts[0] !== "string") parts.shift();
  if (parts.length && typeof parts.at(-1) !== "string") parts.pop();
  return parts.every((part) => typeof part === "string") && /[^\0-\x7f]/.test(parts.join(""));
}

/** @param {Uint8Array} bytes */
function decoded(bytes) {
  return partsOf(bytes).map((part) => (typeof part === "string" ? part : `⟨${part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ")}⟩`)).join("");
}

/** Texts, and between them the bytes that make no character. @param {Uint8Array} bytes @returns {(string | number[])[]} */
function partsOf(bytes) {
  const whole = textIn(bytes);
  if (whole !== null) return whole ? [whole] : [];
  /** @type {(string | number[])[]} */
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const length = lengthOf(bytes[at]);
    const character = length && at + length <= bytes.length ? textIn(bytes.subarray(at, at + length)) : null;
    const last = parts.at(-1);
    if (character === null) {
      if (Array.isArray(last)) last.push(bytes[at]);
      else parts.push([bytes[at]]);
      at += 1;
      continue;
    }
    if (typeof last === "string") parts[parts.length - 1] = last + character;
    else parts.push(character);
    at += length;
  }
  return parts;
}

/** How many bytes a character has that begins with this one; 0 where none does. @param {number} byte */
const lengthOf = (byte) => (byte < 0x80 ? 1 : byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 0);

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {Uint8Array} bytes @returns {string | null} null where they are no text */
function textIn(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** A label: without blanks around it, never empty, and with symbols for line ends, tabs and the like. @param {string} text */
function visible(text) {
  const label = text.replace(OUTER_BLANKS, "").replace(/[\0-\x1f\x7f]/g, symbolOf);
  if (label && UNSEEN.test(label)) return Array.from(label, (character) => named(character)).join("");
  return label || BLANK;
}

/** @param {string} control */
const symbolOf = (control) => ({ "\t": "⇥", "\n": "⏎", "\r": "⇤" })[control] ?? named(control);

/** @param {string} character */
const named = (character) => `⟨u+${character.codePointAt(0).toString(16).padStart(4, "0")}⟩`;
