import assert from "node:assert/strict";
import test from "node:test";
import { showReal } from "../../../src/sightline/view/web/common/real.js";
import { STAGES } from "../../../src/sightline/view/web/common/stages.js";
import {
  largestOf,
  nameOfScale,
  products,
  rowsOfStages,
  stageBefore,
  sumOfWeights,
  times,
  workedBias,
  workedCap,
  workedScale,
  workedScore,
  workedWeight,
} from "../../../src/sightline/view/web/steps/arithmetic.js";
import { walkOf } from "../../../src/sightline/view/web/steps/walk.js";

const row = (key, weight, more = {}) => ({ key, weight, scores: 0, scaled: 0, masked: 0, vector: [], value: null, ...more });
const stages = (more) => ({
  query: 2,
  scale: 0.125,
  softcap: null,
  stages: ["scores", "scaled", "masked"],
  lse: 1,
  visible: 3,
  sink: null,
  queryVector: [],
  keys: [],
  rest: { keys: 0, weight: 0 },
  context: null,
  heads: [],
  ...more,
});

test("keys stand as the text goes where all are there, else by weight", () => {
  const keys = [row(5, 0.2), row(1, 0.5), row(3, 0.2)];
  const order = (given) => rowsOfStages(given).map(({ key }) => key);
  assert.deepEqual(order(stages({ keys })), [1, 3, 5]);
  assert.deepEqual(order(stages({ keys, rest: { keys: 9, weight: 0.1 } })), [1, 3, 5]);
  assert.deepEqual(order(stages({ keys: [row(0, 0.1), row(4, 0.6)], rest: { keys: 9, weight: 0.3 } })), [4, 0]);
});

test("weights, the others and a sink add up", () => {
  const keys = [row(0, 0.5), row(1, 0.25)];
  assert.equal(sumOfWeights(stages({ keys })), 0.75);
  assert.equal(sumOfWeights(stages({ keys, rest: { keys: 2, weight: 0.125 }, sink: 0.125 })), 1);
});

test("the usual scale is told as a root, others as numbers", () => {
  assert.equal(nameOfScale(0.125, 64), "1/√64");
  assert.equal(nameOfScale(1 / Math.sqrt(17), 17), "1/√17");
  assert.equal(nameOfScale(1, 64), "1.0000");
});

test("sums are written out as they were computed", () => {
  const one = row(1, 0.4066, { vector: [2, -1, 3, 0.5], scores: 2.31, scaled: 0.28875, masked: 0.28875 });
  assert.equal(workedScore([1, 2, -3, 4], one), "1.00 × 2.00 + 2.00 × (−1.00) + (−3.00) × 3.00 + … (1 more) = 2.310");
  assert.equal(workedScore([1, 2], { ...one, vector: [2, -1] }), "1.00 × 2.00 + 2.00 × (−1.00) = 2.310");
  assert.equal(workedScale(stages({}), one), "2.310 × 0.1250 = 0.289");
  assert.equal(workedWeight(stages({ lse: 1.1888 }), one), "exp(0.289 − 1.189) = 0.4066");
  assert.equal(workedWeight(stages({ lse: -0.5 }), { ...one, masked: -1.5, weight: 0.3679 }), "exp(−1.500 − (−0.500)) = 0.3679");
});

test("a cap comes before a bias, and the bias is what was added to the capped score", () => {
  const given = stages({ softcap: 50, stages: ["scores", "scaled", "capped", "biased", "masked"] });
  const one = row(1, 0.1, { scores: 80, scaled: 10, capped: 9.869, biased: 9.369 });
  assert.equal(workedScale(given, one), "80.000 × 0.1250 = 10.000");
  assert.equal(workedCap(given, one), "50 × tanh(10.000 / 50) = 9.869");
  assert.equal(workedBias(given, one), "9.869 + bias −0.500 = 9.369");
  assert.equal(workedBias({ ...given, stages: ["scores", "scaled", "biased", "masked"] }, { ...one, biased: 9.5 }), "10.000 + bias −0.500 = 9.500");
});

test("there is a step for each stage that a head has, by its name, and none for others", () => {
  const names = (present) => walkOf(stages({ stages: present })).map(({ name }) => name);
  const without = (...absent) => STAGES.filter((name) => !absent.includes(name));
  assert.deepEqual(names(["scores", "scaled", "capped", "biased", "masked"]), ["query, key", ...STAGES, "heads"]);
  assert.deepEqual(names(["scores", "scaled", "masked"]), ["query, key", ...without("capped", "biased"), "heads"]);
  assert.deepEqual(names(["scores", "scaled", "biased", "masked"]), ["query, key", ...without("capped"), "heads"]);
  assert.ok(walkOf(stages({ stages: STAGES })).every(({ plainly, formula }) => plainly && formula));
});

test("a stage is made from the one before it that is there", () => {
  assert.equal(stageBefore(stages({}), "masked"), "scaled");
  assert.equal(stageBefore(stages({ stages: ["scores", "scaled", "capped", "masked"] }), "masked"), "capped");
  assert.equal(stageBefore(stages({}), "scaled"), "scores");
});

test("numbers have a true minus sign, and tell what is hidden from what is missing", () => {
  assert.equal(showReal(-1.23456), "−1.235");
  assert.equal(showReal(-0.00001), "−1.0e−5");
  assert.equal(showReal(0), "0.000");
  assert.equal(showReal(null), "−∞");
  assert.equal(showReal(-Infinity), "−∞");
  assert.equal(showReal(undefined), "–");
});

test("vectors are multiplied place by place, and colours reach the largest of all", () => {
  assert.deepEqual(products([1, 2, 3], [4, 5, -6]), [4, 10, -18]);
  assert.deepEqual(times([1, -2], 0.5), [0.5, -1]);
  assert.equal(largestOf([[1, -7], null, [3]]), 7);
  assert.equal(largestOf([[0, 0]]), 1);
});
