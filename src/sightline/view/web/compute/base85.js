const FIRST = "(".charCodeAt(0);
const LEFT_OUT = "<".charCodeAt(0);
const INSTEAD = "~".charCodeAt(0);

/**
 * Bytes from digits of base 85, five for four bytes, the first digit first; a last group may have fewer, as many as
 * tell its bytes. The digits are the characters from "(" on, with "~" for "<".
 * @param {string} text
 * @returns {Uint8Array}
 */
export function decodeBase85(text) {
  const spare = (5 - (text.length % 5)) % 5;
  const groups = (text.length + spare) / 5;
  const out = new Uint8Array(4 * groups);
  for (let group = 0; group < groups; group++) {
    let number = 0;
    for (let at = 5 * group; at < 5 * group + 5; at++) number = number * 85 + (at < text.length ? digit(text, at) : 84);
    out[4 * group] = number >>> 24;
    out[4 * group + 1] = number >>> 16;
    out[4 * group + 2] = number >>> 8;
    out[4 * group + 3] = number;
  }
  return out.subarray(0, out.length - spare);
}

function digit(text, at) {
  const code = text.charCodeAt(at);
  return (code === INSTEAD ? LEFT_OUT : code) - FIRST;
}
