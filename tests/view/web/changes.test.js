/** Changes that are none; tests/view/live compares those that are with `sightline.intervene`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Changes } from "../../../src/sightline/view/web/live/changes.js";

const wrong = [
  [{ kind: "cut" }, /changes\[0\]: must be an object whose kind is one of block, scale, set, ablate/],
  [{ kind: "block", by: 1 }, /by: block knows no such field/],
  [{ kind: "block", queries: [1.5] }, /queries: must be null or a list of integers/],
  [{ kind: "block", keys: [] }, /keys: must be null or a list of integers/],
  [{ kind: "scale", by: -1 }, /by: must be a number from 0/],
  [{ kind: "scale" }, /by: must be a number from 0/],
  [{ kind: "set", to: 2 }, /to: must be a number from 0 to 1, got 2/],
  [{ kind: "ablate", how: "noise" }, /how: must be one of zero, mean, uniform/],
];

test("what is no change is named", () => {
  for (const [change, about] of wrong) assert.throws(() => new Changes([/** @type {any} */ (change)]), about);
});

test("calls that no change is about are left alone", () => {
  const changes = new Changes([{ kind: "ablate", section: ["encoder"], layer: 1 }]);
  const call = { heads: 2, groups: 2, width: 4 };
  assert.equal(changes.of({ ...call, section: "decoder", layer: 1 }), null);
  assert.equal(changes.of({ ...call, section: "encoder", layer: 0 }), null);
  assert.ok(changes.of({ ...call, section: "encoder", layer: 1 }));
});

test("a weight that is given is that, and the others keep their proportions", () => {
  const { score } = new Changes([{ kind: "set", keys: [1], to: 0.5 }]).of({ section: "encoder", layer: 0, heads: 1, groups: 1, width: 4 });
  const scores = Float64Array.from([0, -800, Math.log(3), -Infinity]);
  score(0, 0, scores);
  const exps = scores.map(Math.exp);
  const sum = exps.reduce((a, b) => a + b);
  assert.deepEqual(Array.from(exps, (each) => Math.round((1e6 * each) / sum) / 1e6), [0.125, 0.5, 0.375, 0]);
});
