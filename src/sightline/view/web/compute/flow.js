import { BLOCK, scaledProducts } from "./blocks.js";
import { blocksOfRows, rowReader } from "./rows.js";
import { HIDDEN } from "./weights.js";

const RESIDUAL = 0.5; // the share that the residual connection keeps in place

/**
 * Rollout (Abnar & Zuidema 2020) of some targets: e_t Ã_L ... Ã_1, with Ã = ½ I + ½ (mean over heads), rows summing
 * to 1. In direction "to" of the mean of queries [from, to), per key; in direction "from" of keys [from, to), per
 * query: Ã_L ... Ã_1 e.
 * @param {(() => import("./head.js").Head[])[]} layers all heads of each layer, the first layer first; one at a time is held
 * @param {number} n
 * @param {{direction: string, from: number, to: number}} targets
 * @param {(share: number) => Promise<void>} pause called after each few rows
 * @returns {Promise<Float32Array>}
 */
export async function rolloutOf(layers, n, { direction, from, to }, pause) {
  let vector = new Float64Array(n).fill(direction === "to" ? 1 / (to - from) : 1, from, to);
  const order = direction === "to" ? [...layers].reverse() : layers;
  for (let at = 0; at < order.length; at++) {
    const step = direction === "to" ? toKeys : toQueries;
    vector = await step(order[at](), vector, (share) => pause((at + share) / order.length));
  }
  return Float32Array.from(vector);
}

/**
 * Relevance (Chefer 2021) of some targets: e_t (I + Ā_L) ... (I + Ā_1), with Ā = mean over heads of max(0, w · dL/dw) and
 * dL/dw = dL/dcontext · value. Directions as for rollout.
 * @param {(() => import("./head.js").Head[])[]} layers all heads of each layer, the first layer first; one at a time is held
 * @param {number} n
 * @param {{direction: string, from: number, to: number}} targets
 * @param {(share: number) => Promise<void>} pause called after each few rows
 * @returns {Promise<Float32Array>}
 */
export async function relevanceOf(layers, n, { direction, from, to }, pause) {
  const vector = new Float64Array(n).fill(direction === "to" ? 1 / (to - from) : 1, from, to);
  const order = direction === "to" ? [...layers].reverse() : layers;
  for (let at = 0; at < order.length; at++) {
    const change = await relevantStep(order[at](), vector, direction === "to", (share) => pause((at + share) / order.length));
    for (let i = 0; i < n; i++) vector[i] += change[i];
  }
  return Float32Array.from(vector);
}

/** x Ā for a row vector x, or Ā x for a column. */
async function relevantStep(heads, vector, toKeys, pause) {
  const { n, m } = heads[0];
  const [from, to] = toKeys ? [0, m] : [vector.findIndex((x) => x > 0), endOf(vector)]; // other keys add nothing
  const change = new Float64Array(n);
  const slopes = Array.from({ length: BLOCK }, () => new Float64Array(to - from));
  for (let h = 0; h < heads.length; h++) {
    const graded = { query: heads[h].gradient, key: heads[h].value, width: heads[h].valueWidth, scale: 1 / heads.length };
    const read = rowReader([heads[h]], "mean", from, to);
    for (const rows of blocksOfRows(0, n)) {
      if (toKeys && rows.every((i) => vector[i] === 0)) continue;
      const weights = read(rows);
      const seen = Math.max(...rows.map((_, r) => endOf(weights[r])));
      scaledProducts(graded, rows, from, from + seen, from, slopes);
      rows.forEach((i, r) => {
        for (let at = 0; at < seen; at++) {
          if (weights[r][at] <= 0 || slopes[r][at] <= 0) continue;
          const relevant = weights[r][at] * slopes[r][at];
          if (toKeys) change[from + at] += vector[i] * relevant;
          else change[i] += vector[from + at] * relevant;
        }
      });
      await pause((h + rows[0] / n) / heads.length);
    }
  }
  return change;
}

/** Behind the last value that is more than 0. */
function endOf(values) {
  let end = values.length;
  while (end > 0 && !(values[end - 1] > 0)) end -= 1;
  return end;
}

async function toKeys(heads, vector, pause) {
  const next = new Float64Array(vector.length);
  await eachRow(heads, pause, (i) => vector[i] !== 0, (i, row, total) => {
    next[i] += (vector[i] * RESIDUAL) / total;
    for (let j = 0; j < row.length; j++) if (row[j] > 0) next[j] += (vector[i] * (1 - RESIDUAL) * row[j]) / total;
  });
  return next;
}

async function toQueries(heads, vector, pause) {
  const next = new Float64Array(vector.length);
  await eachRow(heads, pause, () => true, (i, row, total) => {
    let sum = RESIDUAL * vector[i];
    for (let j = 0; j < row.length; j++) if (row[j] > 0) sum += (1 - RESIDUAL) * row[j] * vector[j];
    next[i] = sum / total;
  });
  return next;
}

/** Every row, the mean over heads, with what the row of the mix sums to. */
async function eachRow(heads, pause, wanted, take) {
  const { n, m } = heads[0];
  const read = rowReader(heads, "mean", 0, m);
  for (const rows of blocksOfRows(0, n)) {
    if (!rows.some(wanted)) continue;
    const weights = read(rows);
    rows.forEach((i, r) => take(i, weights[r], RESIDUAL + (1 - RESIDUAL) * sumOf(weights[r])));
    await pause(rows[0] / n);
  }
}

function sumOf(row) {
  let sum = 0;
  for (let j = 0; j < row.length; j++) if (row[j] !== HIDDEN) sum += row[j];
  return sum;
}
