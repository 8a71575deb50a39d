/** Sets of characters, as the tables of unicode.js have them. */
import * as tables from "./unicode.js";

/** The inside of a class of a regular expression. @param {string} ranges */
const classOf = (ranges) => ranges.trim().split(/\s+/).map((range) => range.replace(/[0-9a-f]+/g, "\\u{$&}")).join("");

export const LETTERS = classOf(tables.LETTERS);
export const NUMBERS = classOf(tables.NUMBERS);
export const BLANKS = classOf(tables.BLANKS);
export const PUNCTUATION = classOf(tables.PUNCTUATION);
export const COMPOSING = classOf(tables.COMPOSING);

/** @returns {Map<string, string>} the lower case of each character that has one */
export function lowerCases() {
  const found = new Map([["\u0130", "i\u0307"]]);
  for (const run of tables.LOWERED.trim().split(/\s+/)) {
    const [, first, last, step, distance] = /^(\w+)-(\w+)\/(\d)([+-]\w+)$/.exec(run);
    for (let code = parseInt(first, 16); code <= parseInt(last, 16); code += Number(step)) {
      found.set(String.fromCodePoint(code), String.fromCodePoint(code + parseInt(distance, 16)));
    }
  }
  return found;
}
