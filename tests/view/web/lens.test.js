import assert from "node:assert/strict";
import test from "node:test";
import { LensReader } from "../../../src/sightline/view/web/source/lens.js";
import { largestPart, partsOf, placeOf, rowsOf, sumsOf } from "../../../src/sightline/view/web/lens/rows.js";

const part = (name, layer, head, kind) => ({ name, layer, head, kind });
const stage = (name, layer, kind) => ({ name, layer, kind });
const info = {
  sections: ["decoder", "cross"],
  count: 2,
  stages: [
    stage("embedding", null, "embedding"),
    stage("layer 0 attention", 0, "attention"),
    stage("layer 0 cross-attention", 0, "cross-attention"),
    stage("layer 0 feed-forward", 0, "feed-forward"),
    stage("layer 1 attention", 1, "attention"),
    stage("layer 1 cross-attention", 1, "cross-attention"),
    stage("layer 1 feed-forward", 1, "feed-forward"),
  ],
  parts: [
    part("tokens", null, null, "tokens"),
    part("positions", null, null, "positions"),
    part("layer 0 head 0", 0, 0, "head"),
    part("layer 0 output bias", 0, null, "output bias"),
    part("layer 0 cross head 0", 0, 0, "cross head"),
    part("layer 0 cross output bias", 0, null, "cross output bias"),
    part("layer 0 feed-forward", 0, null, "feed-forward"),
    part("layer 1 head 0", 1, 0, "head"),
    part("layer 1 cross head 0", 1, 0, "cross head"),
    part("layer 1 feed-forward", 1, null, "feed-forward"),
    part("norm biases", null, null, "norm biases"),
    part("word bias", null, null, "word bias"),
  ],
  heads: { head: { section: "decoder", layers: [0, 1] }, "cross head": { section: "cross", layers: [null, 0] } },
  notes: [],
};
const said = (probability) => ({ words: [], rank: 1, probability });
const lens = {
  position: 0,
  word: { text: "cat", logit: 78 },
  stages: info.stages.map((_, at) => said(at / 10)),
  parts: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
};
const names = (row) => row.parts.map(({ name }) => name);

test("a line for each layer holds all that its halves wrote, and reads behind the last of them", () => {
  const rows = rowsOf(info, lens, false);
  assert.deepEqual(rows.map(({ name }) => name), ["embedding", "layer 0", "layer 1"]);
  assert.deepEqual(rows.map(({ stage: { probability } }) => probability), [0, 0.3, 0.6]);
  assert.deepEqual(names(rows[0]), ["tokens", "positions"]);
  assert.deepEqual(names(rows[1]), info.parts.slice(2, 7).map(({ name }) => name));
  assert.equal(largestPart(rows), 10);
});

test("halves of layers have what they wrote themselves", () => {
  const rows = rowsOf(info, lens, true);
  assert.deepEqual(rows.map(({ name }) => name), info.stages.map(({ name }) => name));
  assert.deepEqual(names(rows[1]), ["layer 0 head 0", "layer 0 output bias"]);
  assert.deepEqual(names(rows[2]), ["layer 0 cross head 0", "layer 0 cross output bias"]);
  assert.deepEqual(names(rows[3]), ["layer 0 feed-forward"]);
});

test("sums over kinds of parts are in the order of the stream and leave nothing out", () => {
  const sums = sumsOf(partsOf(info, lens));
  assert.deepEqual(sums.map(({ name }) => name), ["embedding", "heads", "cross-attention heads", "feed-forward layers", "biases"]);
  assert.deepEqual(sums.map(({ value }) => value), [3, 11, 14, 17, 33]);
  const without = { ...info, parts: [part("embedding", null, null, "embedding"), part("layer 0 head 0", 0, 0, "head")] };
  assert.deepEqual(sumsOf(partsOf(without, { ...lens, parts: [1, 2] })).map(({ name }) => name), ["embedding", "heads"]);
});

test("where nothing is known of parts there are none", () => {
  assert.deepEqual(partsOf({ ...info, parts: null }, lens), []);
  assert.deepEqual(partsOf(info, { ...lens, parts: null }), []);
  assert.ok(rowsOf({ ...info, parts: null }, lens, false).every(({ parts }) => parts.length === 0));
  assert.ok(largestPart(rowsOf({ ...info, parts: null }, lens, false)) > 0);
});

test("a head is found in its section, unless its layer is not shown", () => {
  const place = (name) => placeOf(info, info.parts.find((each) => each.name === name));
  assert.deepEqual(place("layer 1 head 0"), { section: "decoder", layer: 1, head: "0" });
  assert.deepEqual(place("layer 1 cross head 0"), { section: "cross", layer: 0, head: "0" });
  assert.equal(place("layer 0 cross head 0"), null);
  assert.equal(place("layer 0 feed-forward"), null);
  assert.equal(place("tokens"), null);
});

test("layers that are not split are lines of their own", () => {
  const whole = { ...info, stages: [stage("embedding", null, "embedding"), stage("layer 0", 0, "layer"), stage("layer 1", 1, "layer")], parts: null };
  const given = { ...lens, stages: [said(0), said(0.5), said(1)], parts: null };
  for (const halves of [true, false]) assert.deepEqual(rowsOf(whole, given, halves).map(({ name }) => name), ["embedding", "layer 0", "layer 1"]);
});

test("what a page carries is read position by position", () => {
  const blocks = {};
  const ref = (kind, shape, numbers) => {
    const id = `t${Object.keys(blocks).length}`;
    const typed = kind === "f4" ? new Float32Array(numbers) : new Int32Array(numbers);
    blocks[id] = Buffer.from(typed.buffer).toString("base64");
    return { id, kind, shape };
  };
  const reader = new LensReader(
    {
      names: ["a", "b", "c"],
      words: ref("i4", [2, 2, 2], [0, 1, 1, 2, 2, 0, 2, 1]),
      probabilities: ref("f4", [2, 2, 2], [0.5, 0.25, 0.75, 0.125, 0.5, 0.5, 1, 0]),
      final: ref("i4", [2], [1, 2]),
      ranks: ref("i4", [2, 2], [2, 1, 1, 1]),
      ofFinal: ref("f4", [2, 2], [0.25, 0.75, 0.5, 1]),
      logits: ref("f4", [2], [3, 4]),
      parts: ref("f4", [2, 3], [1, 1, 1, 2, 1, 1]),
    },
    (id) => blocks[id],
  );
  assert.deepEqual(reader.at(1), {
    position: 1,
    word: { text: "c", logit: 4 },
    stages: [
      { words: [{ text: "c", probability: 0.5 }, { text: "a", probability: 0.5 }], rank: 1, probability: 0.5 },
      { words: [{ text: "c", probability: 1 }, { text: "b", probability: 0 }], rank: 1, probability: 1 },
    ],
    parts: [2, 1, 1],
  });
  assert.equal(reader.at(0).stages[1].words[1].text, "c");
});
