const CUT = /(?:⟨[89a-f][0-9a-f](?: [89a-f][0-9a-f])*⟩)+/g; // bytes of a character that is in several tokens

/**
 * Bytes that make whole characters together become these; others stay as they are.
 * @param {string} text
 */
export function joinBytes(text) {
  return text.replace(CUT, (found) => {
    const bytes = Uint8Array.from(found.match(/[0-9a-f]{2}/g), (each) => parseInt(each, 16));
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      return found;
    }
  });
}

/**
 * The text of some tokens as one; "" until it is here.
 * @param {import("../source/tokens.js").TokenCache} tokens
 * @param {import("./merge.js").TokenRange} unit
 */
export function unitText(tokens, { from, to }) {
  let text = "";
  for (let at = from; at < to; at++) {
    // A blank that is a token of its own is before the word.
    text = (text === "␣" ? "" : text) + (at > from && !tokens.glued(at) ? " " : "") + tokens.text(at);
  }
  return joinBytes(text);
}
