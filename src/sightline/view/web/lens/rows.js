/**
 * A line of the table: what the vector says at a stage, and what was added to it since the line before.
 * @typedef {object} LensRow
 * @property {string} name
 * @property {number | null} layer
 * @property {import("../source/types.js").LensStage} stage
 * @property {LensPart[]} parts
 *
 * @typedef {import("../source/types.js").PartInfo & {value: number}} LensPart
 */

/**
 * Lines for the embedding and each layer, or for each half of a layer as well.
 * @param {import("../source/types.js").LensInfo} info
 * @param {import("../source/types.js").Lens} lens
 * @param {boolean} halves
 * @returns {LensRow[]}
 */
export function rowsOf(info, lens, halves) {
  const parts = partsOf(info, lens);
  const rows = info.stages.map(({ name, layer, kind }, at) => ({ name, layer, kind, stage: lens.stages[at] }));
  const last = (row, at) => at + 1 === rows.length || rows[at + 1].layer !== row.layer;
  const kept = halves ? rows : rows.filter(last).map((row) => ({ ...row, name: row.layer === null ? row.name : `layer ${row.layer}`, kind: "layer" }));
  return kept.map(({ name, layer, kind, stage }) => ({ name, layer, stage, parts: parts.filter((part) => belongs(part, layer, kind)) }));
}

/** @param {LensPart} part @param {number | null} layer @param {string} kind of the line */
function belongs(part, layer, kind) {
  if (layer === null) return groupOf(part) === "embedding";
  if (part.layer !== layer) return false;
  if (kind === "layer") return true;
  if (kind === "feed-forward") return part.kind === kind;
  return part.kind !== "feed-forward" && part.kind.startsWith("cross") === (kind === "cross-attention");
}

/**
 * What each part brought to the word that comes out; none where that is not known.
 * @param {import("../source/types.js").LensInfo} info
 * @param {import("../source/types.js").Lens} lens
 * @returns {LensPart[]}
 */
export function partsOf(info, lens) {
  const { parts: values } = lens;
  return info.parts && values ? info.parts.map((part, at) => ({ ...part, value: values[at] })) : [];
}

const GROUPS = { head: "heads", "cross head": "cross-attention heads", "feed-forward": "feed-forward layers" };

/** What kind of part it is, in the words of the sum. @param {import("../source/types.js").PartInfo} part */
function groupOf({ kind }) {
  return GROUPS[kind] ?? (kind.endsWith("bias") || kind.endsWith("biases") ? "biases" : "embedding");
}

/**
 * Sums over kinds of parts, in the order of the stream: they add up to the logit.
 * @param {LensPart[]} parts
 * @returns {{name: string, value: number}[]}
 */
export function sumsOf(parts) {
  const names = ["embedding", ...Object.values(GROUPS), "biases"];
  const sums = names.map((name) => {
    const own = parts.filter((part) => groupOf(part) === name);
    return { name, count: own.length, value: own.reduce((sum, { value }) => sum + value, 0) };
  });
  return sums.filter(({ count }) => count > 0).map(({ name, value }) => ({ name, value }));
}

/** The largest magnitude that a bar shows; never 0. @param {LensRow[]} rows */
export function largestPart(rows) {
  return Math.max(...rows.flatMap(({ parts }) => parts.map(({ value }) => Math.abs(value))), 1e-9);
}

/**
 * Which head a part is on the page; null for what is no head, or not shown.
 * @param {import("../source/types.js").LensInfo} info
 * @param {import("../source/types.js").PartInfo} part
 * @returns {{section: string, layer: number, head: string} | null}
 */
export function placeOf(info, part) {
  const place = info.heads[part.kind];
  const layer = part.layer === null ? null : place?.layers[part.layer];
  if (!place || layer === null || layer === undefined || part.head === null) return null;
  return { section: place.section, layer, head: String(part.head) };
}
