/** What the panel makes of a selection, and of two outcomes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bothOf } from "../../../src/sightline/view/web/whatif/outcome.js";
import { edgeAway, headAway, layerAway, percent, sentenceOf, tokenAway, weightTo, withChange } from "../../../src/sightline/view/web/whatif/targets.js";

const subject = /** @type {any} */ ({ section: { name: "cross" }, layerAt: 1, head: "2", single: true });
const mean = /** @type {any} */ ({ ...subject, head: "mean", single: false });
const one = (at) => ({ from: at, to: at + 1 });
const about = /** @type {any} */ ({
  sections: [
    { name: "encoder", keys: { id: "0" } },
    { name: "decoder", keys: { id: "1" } },
    { name: "cross", keys: { id: "0" } },
  ],
});

test("a selection becomes a change", () => {
  assert.deepEqual(edgeAway(subject, one(3), { from: 4, to: 6 }), { kind: "block", section: "cross", layer: 1, head: 2, queries: [3], keys: [4, 5] });
  assert.equal(edgeAway(mean, one(3), one(4)).head, null);
  assert.deepEqual(headAway(subject), { kind: "ablate", section: "cross", layer: 1, head: 2, how: "zero" });
  assert.deepEqual(headAway(subject, 0, "max"), { kind: "ablate", section: "cross", layer: 0, head: null, how: "zero" });
  assert.deepEqual(layerAway(subject), { kind: "ablate", section: "cross", layer: 1, head: null, how: "zero" });
});

test("a token is away wherever it is a key", () => {
  assert.deepEqual(tokenAway(about, "0", one(2)).section, ["encoder", "cross"]);
  assert.deepEqual(tokenAway(about, "1", one(2)).section, ["decoder"]);
  assert.equal(tokenAway({ ...about, sections: [{ name: "cross", keys: { id: "0" } }] }, "1", one(2)), null);
});

test("a weight that is dragged again takes the place of the first", () => {
  const [a, b] = [weightTo(subject, one(1), one(2), 0.3), weightTo(subject, one(1), one(2), 0.9)];
  const list = withChange([headAway(subject), a], b);
  assert.deepEqual(list, [headAway(subject), b]);
  assert.equal(withChange(list, headAway(subject)).length, 2);
  assert.equal(withChange(list, layerAway(subject)).length, 3);
});

test("changes in words", () => {
  const textOf = (section, side, places) => `${side[0]}${places.join("")}`;
  assert.equal(sentenceOf(edgeAway(subject, one(1), one(2)), textOf), "cross 1 · head 2: q1 → k2 away");
  assert.equal(sentenceOf(weightTo(subject, one(1), one(2), 0.25), textOf), "cross 1 · head 2: q1 → k2 gets 25 %");
  assert.equal(sentenceOf(headAway(subject), textOf), "cross 1 · head 2 away");
  assert.equal(sentenceOf(layerAway(subject), textOf), "cross 1: the whole layer away");
  assert.equal(sentenceOf(tokenAway(about, "0", one(4)), textOf), "nobody looks at k4");
  assert.deepEqual([0, 0.004, 0.5, 1].map(percent), ["0 %", "0.4 %", "50 %", "100 %"]);
});

test("the likeliest of both outcomes, by the larger share", () => {
  const before = /** @type {[string, number][]} */ ([["cat", 0.7], ["dog", 0.2]]);
  const after = /** @type {[string, number][]} */ ([["dog", 0.5], ["rat", 0.4]]);
  assert.deepEqual(bothOf(before, after), [
    { text: "cat", before: 0.7, after: null },
    { text: "dog", before: 0.2, after: 0.5 },
    { text: "rat", before: null, after: 0.4 },
  ]);
});
