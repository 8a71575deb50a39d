import { clip, niceStep, showCount } from "../common/format.js";

/** CSS pixels of the letters. */
export const LETTERS = 13;
/** How labels of columns lean where they do not fit side by side. */
export const LEAN = -Math.PI / 3.6;
const LINE = 15; // a label needs this many pixels
const MOST = 14; // characters of a label
const FEW = 64; // tokens: up to so many all are measured, and labels have the room that they need
const AXES = 58; // pixels that the names of the axes need, side by side with nothing
const TOP = 44; // and one above the other
const GAP = 8;

/** Pixels that a text takes, about: letters of East Asia are as wide as they are high. @param {string} text */
export function labelWidth(text) {
  let width = 0;
  for (const letter of text) width += letter.codePointAt(0) > 0x2e7f ? LETTERS : 0.56 * LETTERS;
  return width;
}

/**
 * The room around a map for its labels, the same while one moves: nothing jumps. Labels of columns stand
 * upright where the whole matrix leaves each of them room.
 * @param {{queries: any, keys: any}} subject
 * @param {number} n
 * @param {number} m
 * @param {number} width of everything, CSS pixels
 * @param {number} height
 * @returns {{left: number, top: number, right: number, bottom: number}}
 */
export function labelRoom({ queries, keys }, n, m, width, height) {
  const [rows, columns] = [longest(queries, n), longest(keys, m)];
  const left = Math.min(Math.max(AXES, rows + 2 * GAP), 0.34 * width);
  const flat = columns + GAP <= Math.min((width - left - GAP) / m, (height - TOP) / n);
  if (flat) return { left, top: TOP, right: GAP, bottom: 2 };
  const top = Math.max(TOP, columns * Math.sin(-LEAN) + LETTERS + GAP);
  return { left, top, right: Math.min(columns * Math.cos(LEAN), 0.12 * width), bottom: 2 };
}

/** The width of the longest label; of a long text's, of any. */
function longest(tokens, count) {
  if (count > FEW) return labelWidth("abcd 10,000");
  let most = 0;
  for (let at = 0; at < count; at++) most = Math.max(most, labelWidth(labelText(tokens, at)));
  return most;
}

function labelText(tokens, at) {
  return clip(tokens.text(at) || String(at), MOST);
}

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
    for (let at = from; at < to; at++) labels.push({ at, text: labelText(tokens, at) });
    return labels;
  }
  const step = niceStep((LINE * 3) / size);
  for (let at = Math.ceil(from / step) * step; at < to; at += step) {
    const text = tokens.text(at);
    labels.push({ at, text: text && text !== String(at) ? `${clip(text, 4)} ${showCount(at)}` : showCount(at) });
  }
  return labels;
}
