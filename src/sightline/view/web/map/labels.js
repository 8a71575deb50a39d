import { clip, niceStep, showCount } from "../common/format.js";

const LINE = 12; // a label needs this many pixels

/**
 * Labels along one axis: every token where there is room for each, else numbered places a readable distance apart.
 * @param {{text: (at: number) => string}} tokens
 * @param {number} from first place in view
 * @param {number} to
 * @param {number} size CSS pixels per place
 * @returns {{at: number, text: string}[]}
 */
export function axisLabels(tokens, from, to, size) {
  const labels = [];
  if (size >= LINE) {
    for (let at = from; at < to; at++) labels.push({ at, text: clip(tokens.text(at) || String(at), 10) });
    return labels;
  }
  const step = niceStep((LINE * 3) / size);
  for (let at = Math.ceil(from / step) * step; at < to; at += step) {
    const text = tokens.text(at);
    labels.push({ at, text: text && text !== String(at) ? `${clip(text, 4)} ${showCount(at)}` : showCount(at) });
  }
  return labels;
}
