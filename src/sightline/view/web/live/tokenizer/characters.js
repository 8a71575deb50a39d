/** Sets of characters, as the tables of unicode.js have them. */
import { BLANK_RANGES, COMPOSING_RANGES, LETTER_RANGES, LOWER_RUNS, NUMBER_RANGES, PUNCTUATION_RANGES } from "./unicode.js";

/** The inside of a class of a regular expression. @param {string} ranges */
const classOf = (ranges) => ranges.trim().split(/\s+/).map((range) => range.replace(/[0-9a-f]+/g, "\\u{$&}")).join("");

export const LETTER_CLASS = classOf(LETTER_RANGES);
export const NUMBER_CLASS = classOf(NUMBER_RANGES);
export const BLANK_CLASS = classOf(BLANK_RANGES);
export const PUNCTUATION_CLASS = classOf(PUNCTUATION_RANGES);
export const COMPOSING_CLASS = classOf(COMPOSING_RANGES);

/** @returns {Map<string, string>} the lower case of each character that has one */
export function lowerCases() {
  const found = new Map([["\u0130", "i\u0307"]]);
  for (const run of LOWER_RUNS.trim().split(/\s+/)) {
    const [, first, last, step, distance] = /^(\w+)-(\w+)\/(\d)([+-]\w+)$/.exec(run);
    for (let code = parseInt(first, 16); code <= parseInt(last, 16); code += Number(step)) {
      found.set(String.fromCodePoint(code), String.fromCodePoint(code + parseInt(distance, 16)));
    }
  }
  return found;
}
