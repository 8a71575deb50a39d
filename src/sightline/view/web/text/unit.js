/**
 * The text of some tokens as one; "" until it is here.
 * @param {import("../source/tokens.js").TokenCache} tokens
 * @param {import("./merge.js").TokenRange} unit
 */
export function unitText(tokens, { from, to }) {
  let text = "";
  for (let at = from; at < to; at++) text += (at > from && !tokens.glued(at) ? " " : "") + tokens.text(at);
  return text;
}
