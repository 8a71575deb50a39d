/** The page's rules of the stages against the table of cases that holds the definition and every backend, too. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { LOGITS, STAGES } from "../../../src/sightline/view/web/common/stages.js";
import { BLOCK, weightsOfRows } from "../../../src/sightline/view/web/compute/blocks.js";
import { scoreStages, stagesOfHead } from "../../../src/sightline/view/web/compute/rules.js";
import { stagesOf } from "../../../src/sightline/view/web/compute/stages.js";
import { HIDDEN, maskedScore, weightsOfColumn } from "../../../src/sightline/view/web/compute/weights.js";
import { CASES, headOf } from "./heads.js";

function near(actual, expected, what) {
  const wanted = expected ?? -Infinity;
  const isNear = actual === wanted || Math.abs(actual - wanted) <= 2e-6 * (1 + Math.abs(wanted));
  assert.ok(isNear, `${what}: ${actual}, expected ${wanted}`);
}

function checkHead(head, { expected }, name) {
  const present = stagesOfHead(head);
  assert.deepEqual(present, LOGITS.filter((stage) => present.includes(stage)));
  const columns = Array.from({ length: head.m }, (_, j) => {
    const column = new Float64Array(head.n);
    weightsOfColumn(head, j, column);
    return column;
  });
  for (let i = 0; i < head.n; i++) {
    const outs = Array.from({ length: BLOCK }, () => new Float64Array(head.m));
    weightsOfRows(head, [i], 0, head.m, outs);
    for (let j = 0; j < head.m; j++) {
      const where = `${name}, query ${i}, key ${j}`;
      const passed = {};
      let before;
      // What is absent passes the stage before through.
      for (const stage of LOGITS) before = passed[stage] = scoreStages(head, i, j)[stage] ?? before;
      for (const stage of LOGITS) near(passed[stage], expected[stage][i][j], `${stage}, ${where}`);
      near(maskedScore(head, i, j), expected.masked[i][j], `masked alone, ${where}`);
      for (const [weight, how] of [[outs[0][j], "a block"], [columns[j][i], "a column"]]) {
        assert.equal(weight === HIDDEN, expected.masked[i][j] === null, `hidden in ${how}, ${where}`);
        near(weight === HIDDEN ? 0 : weight, expected.weights[i][j], `weights in ${how}, ${where}`);
      }
    }
    const { stages, keys, context, visible } = stagesOf([head], 0, i, head.m);
    assert.deepEqual(stages, present);
    assert.equal(visible, expected.masked[i].filter((score) => score !== null).length);
    context.forEach((number, e) => near(number, expected.context[i][e], `context, ${name}, query ${i}`));
    for (const { key, weight } of keys) near(weight, expected.weights[i][key], `weights in the steps, ${name}, query ${i}, key ${key}`);
  }
}

test("the stages of the table are those of the page", () => {
  assert.deepEqual(LOGITS, ["scores", "scaled", "capped", "biased", "masked"]);
  for (const { name, expected } of CASES) assert.deepEqual(Object.keys(expected), [...STAGES, "lse"], name);
});

for (const given of CASES) {
  test(`every stage: ${given.name}`, () => {
    const head = headOf(given);
    assert.equal(stagesOfHead(head).includes("capped"), "softcap" in given);
    assert.equal(stagesOfHead(head).includes("biased"), "bias" in given || "slope" in given || "table" in given);
    checkHead(head, given, given.name);
    if ("slope" in given || "table" in given) checkHead(headOf(given, true), given, `${given.name}, by its diagonals`);
  });
}
