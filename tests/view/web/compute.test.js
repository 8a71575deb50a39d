/** The page's arithmetic against definitions written out by loops. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK, weightsOfRows } from "../../../src/sightline/view/web/compute/blocks.js";
import { relevanceOf, rolloutOf } from "../../../src/sightline/view/web/compute/flow.js";
import { blocksOfRows, meanRow } from "../../../src/sightline/view/web/compute/rows.js";
import { tileOf } from "../../../src/sightline/view/web/compute/tiles.js";
import { HIDDEN, maskedScore } from "../../../src/sightline/view/web/compute/weights.js";

const nobody = async () => {};

/** A head with numbers that repeat from run to run. */
function headWith(n, m, width, terms = {}) {
  let seed = 7;
  const numbers = (count) => Float32Array.from({ length: count }, () => ((seed = (seed * 16807) % 2147483647) / 2147483647) * 2 - 1);
  const head = {
    n, m, width, scale: 0.7, softcap: null, query: numbers(n * width), key: numbers(m * width), lse: new Float32Array(n),
    ranges: null, visible: null, visibleShape: [1, 1], bias: null, biasShape: [1, 1], diagonals: null, slope: 0,
    table: null, offset: m - n, sink: -Infinity, value: null, valueWidth: 0, ...terms,
  };
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < m; j++) sum += Math.exp(maskedScore(head, i, j));
    head.lse[i] = Math.log(sum);
  }
  return head;
}

/** [N][M], NaN where hidden, by the definition of a weight. */
function denseOf(head) {
  return Array.from({ length: head.n }, (_, i) =>
    Array.from({ length: head.m }, (_, j) => {
      const score = maskedScore(head, i, j);
      return score === -Infinity ? NaN : Math.exp(score - head.lse[i]);
    }),
  );
}

function near(found, expected, within = 1e-6) {
  assert.equal(found.length, expected.length);
  expected.forEach((value, at) => {
    if (Number.isNaN(value)) assert.ok(Number.isNaN(found[at]), `${at}: ${found[at]} where nothing is visible`);
    else assert.ok(Math.abs(found[at] - value) <= within, `${at}: ${found[at]}, expected ${value}`);
  });
}

const causal = (n) => Int32Array.from({ length: 2 * n }, (_, at) => (at % 2 ? (at >> 1) + 1 : 0));
/** The first two keys and the last three, which leaves a hole; query 5 sees nothing. */
const holes = (n) => Int32Array.from(Array.from({ length: n }, (_, i) => (i === 5 ? [0, 0, 0, 0] : [0, Math.min(2, i + 1), Math.max(2, i - 2), i + 1])).flat());

const CASES = {
  plain: {},
  "odd width": { width: 5 },
  causal: { ranges: causal(23) },
  holes: { ranges: holes(23) },
  softcap: { softcap: 0.5 },
  slope: { slope: 0.3, ranges: causal(23) },
  "dense mask": { visible: Uint8Array.from({ length: 23 * 23 }, (_, at) => Number(at % 3 !== 1)), visibleShape: [23, 23] },
};

for (const [name, { width = 8, ...terms }] of Object.entries(CASES)) {
  const head = headWith(23, 23, width, terms);
  const dense = denseOf(head);

  test(`blocks of rows, any part: ${name}`, () => {
    for (const [from, to] of [[0, 23], [3, 4], [7, 20], [22, 23]]) {
      for (const rows of [[0], [4, 5, 6, 7], [1, 9, 22]]) {
        const outs = Array.from({ length: BLOCK }, () => new Float64Array(to - from).fill(9));
        weightsOfRows(head, rows, from, to, outs);
        rows.forEach((i, r) => near(Array.from(outs[r], (w) => (w === HIDDEN ? NaN : w)), dense[i].slice(from, to), 1e-12));
        for (let r = rows.length; r < BLOCK; r++) assert.ok(outs[r].every((w) => w === 9), "a row that nobody asked for");
      }
    }
  });

  test(`tiles: ${name}`, async () => {
    for (const reduce of ["mean", "max"]) {
      const { values, width: across, height, sampled } = await tileOf([head], "mean", { level: 2, row: 0, column: 0 }, { reduce, quick: false }, nobody);
      assert.deepEqual([across, height, sampled], [6, 6, false]);
      near(values, cellsOf(dense, 4, reduce));
    }
  });
}

function cellsOf(dense, cell, reduce) {
  const side = Math.ceil(dense.length / cell);
  return Array.from({ length: side * side }, (_, at) => {
    const [y, x] = [Math.floor(at / side) * cell, (at % side) * cell];
    const seen = dense.slice(y, y + cell).flatMap((row) => row.slice(x, x + cell)).filter((w) => !Number.isNaN(w));
    if (seen.length === 0) return NaN;
    return reduce === "max" ? Math.max(...seen) : seen.reduce((sum, w) => sum + w, 0) / seen.length;
  });
}

test("a quick tile of a large matrix is sampled, and leaves no line of cells out", async () => {
  const n = 2053; // the last cells are cut
  const head = headWith(1, n, 1);
  Object.assign(head, { n, query: new Float32Array(n), lse: new Float32Array(n).fill(Math.log(n)) });
  const shares = [];
  const { values, sampled } = await tileOf([head], "mean", { level: 4, row: 0, column: 0 }, { reduce: "mean", quick: true }, async (share) => void shares.push(share));
  assert.equal(sampled, true);
  near(values, Array.from({ length: values.length }, () => 1 / n));
  assert.ok(shares.every((share, at) => at === 0 || share > shares[at - 1]));
  assert.equal(shares.at(-1), 1);
});

test("rows in steps: each once, none beyond the end", () => {
  assert.deepEqual(blocksOfRows(2, 21, 3).flat(), [2, 5, 8, 11, 14, 17, 20]);
  assert.deepEqual(blocksOfRows(0, 9).map((rows) => rows.length), [4, 4, 1]);
  assert.deepEqual(blocksOfRows(5, 5), []);
});

test("over heads: a key that one head may look at counts 0 in the others", () => {
  const heads = [headWith(4, 4, 3, { ranges: causal(4) }), headWith(4, 4, 3)];
  const [a, b] = heads.map((head) => denseOf(head)[1].map((w) => w || 0));
  near(meanRow(heads, "mean", 1, 2), a.map((w, j) => (w + b[j]) / 2));
  near(meanRow(heads, "max", 1, 2), a.map((w, j) => Math.max(w, b[j])));
});

test("rollout of a query that sees nothing keeps what it has", async () => {
  const head = headWith(23, 23, 8, { ranges: holes(23) });
  const found = await rolloutOf([() => [head]], 23, { direction: "to", from: 5, to: 6 }, nobody);
  near(found, Array.from({ length: 23 }, (_, j) => Number(j === 5)));
});

/** R = (I + Ā_L) ... (I + Ā_1), with Ā = mean over heads of max(0, w · dL/dw), written out. */
function relevanceByDefinition(layers, n) {
  let whole = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j)));
  for (const heads of layers) {
    const mean = Array.from({ length: n }, () => new Array(n).fill(0));
    for (const head of heads) {
      const dense = denseOf(head);
      const slope = (i, j) => Array.from({ length: head.valueWidth }, (_, e) => head.gradient[i * head.valueWidth + e] * head.value[j * head.valueWidth + e]).reduce((a, b) => a + b, 0);
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) mean[i][j] += Math.max(0, (dense[i][j] || 0) * slope(i, j)) / heads.length;
    }
    whole = whole.map((row, i) => row.map((own, j) => own + mean[i].reduce((sum, x, k) => sum + x * whole[k][j], 0)));
  }
  return whole;
}

test("relevance, both ways, of several targets, by its definition", async () => {
  const graded = (terms, seed) => {
    const head = headWith(23, 23, 8, terms);
    const numbers = (count, k) => Float32Array.from({ length: count }, (_, at) => Math.sin(k * (at + 1) * (at + seed)));
    return Object.assign(head, { value: numbers(23 * 5, 0.37), gradient: numbers(23 * 5, 0.73), valueWidth: 5 });
  };
  const layers = [[graded({ ranges: causal(23) }, 1), graded({ ranges: causal(23) }, 2)], [graded({ ranges: holes(23) }, 3), graded(CASES["dense mask"], 4)]];
  const whole = relevanceByDefinition(layers, 23);
  const read = layers.map((heads) => () => heads);
  const shares = [];
  const to = await relevanceOf(read, 23, { direction: "to", from: 9, to: 12 }, async (share) => void shares.push(share));
  near(to, whole[0].map((_, j) => (whole[9][j] + whole[10][j] + whole[11][j]) / 3), 1e-5);
  assert.ok(shares.length > 8 && shares.every((share, at) => share < 1 && (at === 0 || share > shares[at - 1])));
  near(await relevanceOf(read, 23, { direction: "from", from: 9, to: 12 }, nobody), whole.map((row) => row[9] + row[10] + row[11]), 1e-5);
  const stopped = relevanceOf(read, 23, { direction: "from", from: 9, to: 12 }, () => Promise.reject(new Error("stopped")));
  await assert.rejects(stopped, /stopped/);
});
