import { largestPlaces, mergedWeight } from "../text/merge.js";

const MOST = 3; // links of one target

/**
 * A target unit and a source unit by their places in the lists of units.
 * @typedef {{target: number, source: number, weight: number}} Link
 */

/**
 * The strong links of every target: its largest sources, those above a threshold.
 * @param {Float32Array[]} rows a row of weights over all source tokens for each target unit
 * @param {import("../text/merge.js").TokenRange[]} sources units in view
 * @param {number} threshold
 * @returns {Link[]} weak ones first, so that strong ones are drawn over them
 */
export function strongLinks(rows, sources, threshold) {
  const links = rows.flatMap((row, target) => {
    const weights = Float64Array.from(sources, ({ from, to }) => mergedWeight(row, from, to, "sum"));
    const strong = largestPlaces(weights, MOST).filter((source) => weights[source] >= threshold);
    return strong.map((source) => ({ target, source, weight: weights[source] }));
  });
  return links.sort((a, b) => a.weight - b.weight);
}

/**
 * The token that each row looks at most; -1 where all is hidden.
 * @param {Float32Array[]} rows
 */
export function argmaxOf(rows) {
  return rows.map((row) => largestPlaces(row, 1)[0] ?? -1);
}

/**
 * Where the sources that rows look at most lie: their median.
 * @param {Float32Array[]} rows
 */
export function middleOf(rows) {
  const places = argmaxOf(rows).filter((at) => at >= 0).sort((a, b) => a - b);
  return places.length ? places[places.length >> 1] : 0;
}
