import { refuse } from "./refuse.js";

/** @typedef {{id: number, content: string, special: boolean}} AddedToken */

/** @param {any[]} parts `added_tokens` of tokenizer.json @returns {AddedToken[]} */
export function addedTokensOf(parts) {
  for (const part of parts ?? []) {
    for (const flag of ["single_word", "lstrip", "rstrip", "normalized"]) {
      if (part[flag]) refuse(`${flag} of the added token ${part.content}`, part[flag], "false");
    }
  }
  return parts ?? [];
}

/**
 * Cuts a text at the added tokens that are written in it, the longest at each place.
 * @param {AddedToken[]} added
 * @returns {(text: string) => {text: string, id: number | null}[]} parts; those with an id are tokens
 */
export function cutterOf(added) {
  const ids = new Map(added.filter(({ content }) => content).map(({ content, id }) => [content, id]));
  if (ids.size === 0) return (text) => (text ? [{ text, id: null }] : []);
  const longestFirst = [...ids.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map((content) => content.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")).join("|")})`, "u");
  return (text) =>
    text.split(pattern).map((part, at) => ({ text: part, id: at % 2 ? ids.get(part) : null })).filter((part) => part.text);
}
