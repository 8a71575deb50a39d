import assert from "node:assert/strict";
import { test } from "node:test";
import { largestPlaces, mergedWeight } from "../../../src/sightline/view/web/text/merge.js";
import { hoverOf, pinOf } from "../../../src/sightline/view/web/text/pointing.js";
import { rankingCandidates, rankUnits } from "../../../src/sightline/view/web/text/ranking.js";
import { canShade, shadingOf, shadingScale, shownOf } from "../../../src/sightline/view/web/text/shading.js";
import { unitText } from "../../../src/sightline/view/web/text/unit.js";

const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-6, `${a} is not ${b}`);
const single = (at) => ({ from: at, to: at + 1 });
const pair = (at) => ({ from: at - (at % 2), to: at - (at % 2) + 2 });

test("keys of a word are summed, queries averaged, hidden only where all are", () => {
  const values = [0.1, NaN, 0.3, NaN, NaN];
  close(mergedWeight(values, 0, 3, "sum"), 0.4);
  close(mergedWeight(values, 0, 3, "mean"), 0.4 / 3);
  assert.ok(Number.isNaN(mergedWeight(values, 3, 5, "sum")));
  assert.ok(Number.isNaN(mergedWeight(values, 3, 5, "mean")));
});

test("the largest places fall, keep the order of ties and leave out what is hidden", () => {
  assert.deepEqual(largestPlaces([0.2, NaN, 0.5, 0.2, 0.1, 0.5], 4), [2, 5, 0, 3]);
  assert.deepEqual(largestPlaces([NaN, NaN], 3), []);
  assert.deepEqual(largestPlaces([1, 2], 0), []);
  const values = Array.from({ length: 500 }, (_, at) => (at * 7919) % 503);
  const sorted = values.map((value, at) => [value, at]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  assert.deepEqual(largestPlaces(values, 20), sorted.slice(0, 20).map(([, at]) => at));
});

test("a ranking of words adds up to the row", () => {
  const values = Float32Array.from([0.05, 0.3, 0.25, 0.2, NaN, 0.2]);
  const { top, others, rest } = rankUnits(values, rankingCandidates(values), pair, "sum", 2);
  assert.deepEqual(top.map(({ from }) => from), [2, 0]);
  close(top[0].weight, 0.45);
  close(top[1].weight, 0.35);
  assert.equal(others, 1);
  close(rest, 0.2);
});

test("in a long text the largest tokens make the words, wherever they stand", () => {
  const values = new Float32Array(100_001).fill(1e-6);
  values[77_777] = 0.3;
  values[99_998] = 0.2;
  values[99_999] = 0.2;
  const candidates = rankingCandidates(values);
  assert.ok(candidates.length < 1000);
  const { top, others } = rankUnits(values, candidates, pair, "sum", 2);
  assert.deepEqual(top.map(({ from, to }) => [from, to]), [[99_998, 100_000], [77_776, 77_778]]);
  assert.equal(others, 100_001 - 4);
});

test("tokens that share a character show it where they are one unit", () => {
  const texts = ["␣", "⟨e4⟩", "⟨bd a0⟩", "好", "⟨f0 9f⟩", "⟨41⟩"];
  const tokens = /** @type {any} */ ({ text: (at) => texts[at], glued: (at) => at > 0 });
  assert.equal(unitText(tokens, { from: 0, to: 4 }), "你好");
  assert.equal(unitText(tokens, { from: 1, to: 2 }), "⟨e4⟩");
  assert.equal(unitText(tokens, { from: 3, to: 6 }), "好⟨f0 9f⟩⟨41⟩");
});

test("hovering is about the token alone without a pin, about the weight between with one", () => {
  const none = { direction: "to", query: null, key: null };
  assert.deepEqual(hoverOf(none, "both", 3), { query: 3, key: null });
  assert.deepEqual(hoverOf(none, "keys", 3), { query: null, key: 3 });
  assert.deepEqual(hoverOf({ ...none, query: 1 }, "both", 3), { query: 1, key: 3 });
  assert.deepEqual(hoverOf({ ...none, query: 1 }, "queries", 3), { query: 3, key: null });
  assert.deepEqual(hoverOf({ direction: "from", query: null, key: 1 }, "both", 3), { query: 3, key: 1 });
  assert.deepEqual(hoverOf({ direction: "from", query: 2, key: null }, "both", 3), { query: null, key: 3 });
});

test("a click pins, on what is pinned it unpins, and turns where only the other side shows anything", () => {
  const none = { direction: "to", query: null, key: null };
  assert.deepEqual(pinOf(none, "both", single(3), 3), { query: 3 });
  assert.deepEqual(pinOf({ ...none, query: 3 }, "both", single(3), 3), { query: null });
  assert.deepEqual(pinOf({ ...none, query: 2 }, "both", pair(3), 3), { query: null });
  assert.deepEqual(pinOf({ ...none, query: 2 }, "both", single(3), 3), { query: 3 });
  assert.deepEqual(pinOf(none, "keys", single(3), 3), { key: 3, direction: "from" });
  assert.deepEqual(pinOf({ ...none, query: 2 }, "keys", single(3), 3), { key: 3 });
  assert.deepEqual(pinOf({ direction: "from", query: null, key: 3 }, "queries", single(1), 1), { query: 1 });
});

test("a shading is of the side that it is about, and a flow only where the trace has one", async () => {
  const asked = [];
  const answer = (name) => async (...how) => (asked.push([name, ...how.slice(0, 4)]), new Float32Array(2));
  const source = { row: answer("row"), column: answer("column"), received: answer("received"), flow: answer("flow") };
  const section = { name: "encoder" };
  const about = { id: "t", flows: [{ name: "rollout", section: "encoder" }] };
  const subject = { source, about, section, place: "p", layer: { n: 100_000, m: 100_000 } };
  const of = (show, direction, range = { from: 2, to: 4 }) => shadingOf(subject, { show, direction, range }, null, null);
  assert.equal((await of("weights", "to")).side, "keys");
  const column = await of("weights", "from");
  assert.deepEqual([column.side, column.how], ["queries", "mean"]);
  assert.equal((await of("received", "from")).side, "keys");
  assert.equal((await of("rollout", "from")).side, "queries");
  assert.deepEqual(asked.map(([name]) => name), ["row", "column", "received", "flow"]);
  assert.deepEqual(asked[0].slice(2, 4), [2, 4]);
  assert.equal(shownOf(subject, "rollout"), "rollout");
  assert.equal(shownOf(subject, "relevance"), "weights");
  const nothing = { direction: "to", range: null };
  assert.equal(canShade(subject, { ...nothing, show: "weights" }), false);
  assert.equal(canShade(subject, { ...nothing, show: "received" }), true);
  assert.equal(canShade({ ...subject, layer: { n: 100, m: 100 } }, { ...nothing, show: "weights" }), true);
  assert.equal(canShade({ ...subject, layer: { n: 100, m: 100 } }, { ...nothing, show: "rollout" }), false);
});

test("colours of relevance end at the largest besides the token's own, those of the rest at 1", async () => {
  const values = Float32Array.from([2e-5, 4e-5, 1, 1e-5, NaN]);
  const about = { id: "t", flows: ["rollout", "relevance"].map((name) => ({ name, section: "encoder" })) };
  const subject = { source: { flow: async () => values }, about, section: { name: "encoder" }, place: "p", layer: { n: 5, m: 5 } };
  const explorer = { scale: { of: (w) => w }, state: { scale: "linear" } };
  const scaled = async (show, range) => {
    const shading = await shadingOf(subject, { show, direction: "to", range }, null, null);
    return Array.from(values, shadingScale(shading, explorer));
  };
  const relevance = await scaled("relevance", { from: 2, to: 3 });
  close(relevance[0], 0.5);
  close(relevance[1], 1);
  close((await scaled("rollout", { from: 2, to: 3 }))[1], 4e-5);
  close((await scaled("relevance", { from: 0, to: 4 }))[1], 4e-5); // there is nothing besides
  close(shadingScale(null, explorer)(0.3), 0.3);
});
