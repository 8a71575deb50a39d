/** What the guided tour tells: its numbers against the table of cases that Python's stages are held to, and where it goes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { stagesOf } from "../../../src/sightline/view/web/compute/stages.js";
import { shareText } from "../../../src/sightline/view/web/page/answer.js";
import { cutOut, huntText, partAround } from "../../../src/sightline/view/web/tour/hunt.js";
import { wordPosition, wordsByLayer } from "../../../src/sightline/view/web/tour/layers.js";
import { addedValues, firstNumbers, previousHead, tourNumbers, workedContext, workedRoot, workedShare } from "../../../src/sightline/view/web/tour/numbers.js";
import { isWordOf, tellingHead, tellingQuery, tourSection } from "../../../src/sightline/view/web/tour/place.js";
import { CASES, headOf } from "./heads.js";

const lastNumber = (text) => Number(/= (−?[\d.]+(?:e−?\d+)?)$/.exec(text)[1].replaceAll("−", "-"));

function near(actual, expected, what, by = 0.0051) {
  assert.ok(Math.abs(actual - expected) <= by * (1 + Math.abs(expected)), `${what}: ${actual}, expected ${expected}`);
}

for (const given of CASES) {
  test(`the tour's numbers: ${given.name}`, () => {
    const { expected } = given;
    const head = headOf(given);
    for (let query = 0; query < head.n; query++) {
      const stages = stagesOf([head], 0, query, head.m);
      if (stages.keys.length === 0) continue;
      const where = `query ${query}`;
      const weights = expected.weights[query];
      const { rows, best, sum, hidden } = tourNumbers(stages, head.m);
      assert.equal(best.weight, Math.max(...rows.map(({ weight }) => weight)), where);
      near(best.weight, Math.max(...weights), where, 1e-5);
      near(sum, 1, `all weights of ${where}`, 1e-5);
      assert.equal(hidden, expected.masked[query].filter((score) => score === null).length, where);
      near(lastNumber(workedRoot(stages, best, head.width)), expected.scaled[query][best.key], `scaled, ${where}`);
      near(lastNumber(workedShare(stages, best)), weights[best.key], `weight, ${where}`);
      const added = addedValues(rows);
      expected.context[query].forEach((number, at) => near(added.reduce((total, each) => total + each[at], 0), number, `context, ${where}`, 1e-5));
      near(lastNumber(workedContext(stages, rows)), expected.context[query][0], `first of the context, ${where}`);
    }
  });
}

test("sums are written out as a reader follows them", () => {
  const row = { key: 1, weight: 0.5, scores: 8, scaled: 4, masked: 4, vector: [], value: [2] };
  const stages = { scale: 0.5, lse: Math.log(2 * Math.exp(4)), rest: { keys: 3, weight: 0.1 }, context: [1.2] };
  assert.equal(workedRoot(stages, row, 4), "8.000 / √4 = 8.000 / 2.000 = 4.000");
  assert.equal(workedRoot({ ...stages, scale: 1 }, row, 4), "8.000 × 1.0000 = 4.000");
  assert.equal(workedShare(stages, row), "exp(4.00) / Σ exp = 54.60 / 109.20 = 0.50");
  assert.match(workedShare({ ...stages, lse: 900 }, { ...row, masked: 899 }), /^exp\(899\.000 − 900\.000\)/);
  const less = { ...row, weight: 0.2, value: [-1] };
  assert.equal(workedContext(stages, [less, row]), "0.50 × 2.00 + 0.20 × (−1.00) + … (3 more) = 1.20");
  assert.equal(firstNumbers([1, -2, 3, 4, 5]), "(1.00, −2.00, 3.00, 4.00, …)");
  assert.equal(firstNumbers([0.5]), "(0.50)");
});

test("the tour goes where a head looks at another word, decidedly", () => {
  const numbers = (max, previous, itself, first) => ({ heads: { max, previous, itself, first } });
  assert.deepEqual(tellingHead([numbers([0.9, 0.5], [0.8, 0.1], [0, 0], [0, 0]), numbers([0.9, 0.9], [0, 0], [0.9, 0.1], [0, 0.7])]), { layer: 0, head: 1 });
  assert.deepEqual(tellingHead([{ heads: { max: [0.2, 0.6] } }]), { layer: 0, head: 1 }, "of cross-attention only the largest weight is known");
  // Rows: 0 looks at itself, 1 at its neighbour, 2 at the first, 3 at what is no word.
  const weights = Float32Array.from([[1, NaN, NaN, NaN], [0.9, 0.1, NaN, NaN], [0.6, 0.3, 0.1, NaN], [0.1, 0.05, 0.05, 0.8]].flat());
  const every = { isWord: () => true, isKeyWord: (at) => at !== 3 };
  assert.equal(tellingQuery(weights, 4, true, every).query, 2);
  assert.ok(Math.abs(tellingQuery(weights, 4, true, every).weight - 0.6) < 1e-6);
  assert.equal(tellingQuery(weights, 4, false, every).query, 0, "of another text any key counts");
  assert.equal(tellingQuery(weights, 4, true, { ...every, isWord: (at) => at === 1 }), null);
});

test("words that are worth following are long and said once, where a text has such", () => {
  const of = (...texts) => ({ special: (at) => texts[at] === "[CLS]", text: (at) => texts[at] });
  const chosen = (...texts) => texts.filter((_, at) => isWordOf(of(...texts), texts.length)(at));
  assert.deepEqual(chosen("[CLS]", "The", "cat", "sat", "on", "the", "mat", "."), ["cat", "sat", "mat"]);
  assert.deepEqual(chosen("the", "cat", "the", "cat"), ["the", "cat", "the", "cat"]);
  assert.deepEqual(chosen("[CLS]", "I", "am", "in", "."), ["am", "in"]);
  assert.deepEqual(chosen("a", "␣", "猫", "!"), ["a", "猫"]);
});

test("it follows the section that is shown, or one that looks at its own text; places are no text", () => {
  const side = (places) => ({ id: "0", count: 3, places });
  const section = (name, isSelf, places = false) => ({ name, isSelf, queries: side(places), keys: side(places) });
  const about = { medium: null, sections: [section("encoder", true), section("decoder", true), section("cross", false)] };
  assert.equal(tourSection(about, "cross").name, "encoder");
  assert.equal(tourSection(about, "decoder").name, "decoder");
  assert.equal(tourSection({ medium: null, sections: [section("cross", false)] }, "cross").name, "cross");
  assert.equal(tourSection({ medium: null, sections: [section("self", true, true)] }, "self"), null);
  assert.equal(tourSection({ ...about, medium: { kind: "image" } }, "encoder"), null);
});

test("the head that looks at the token before is found, and others are told from it", () => {
  const layers = [{ heads: { previous: [0.1, 0.2] } }, { heads: { previous: [0.7, null] } }];
  const wanted = previousHead(layers);
  assert.deepEqual(wanted, { layer: 1, head: 0, weight: 0.7 });
  assert.equal(previousHead([{ heads: { max: [1] } }]), null);
  assert.match(huntText(wanted, wanted), /^Yes! Layer 1 head 0 gives the token before 0\.70/);
  assert.match(huntText({ layer: 0, head: 1, weight: 0.2 }, wanted), /0\.20.*Another gives it more/);
  assert.match(huntText({ layer: 0, head: 0, weight: 0.1 }, { layer: 0, head: 0, weight: 0.1 }), /not much/);
  assert.equal(huntText({ layer: 0, head: 0, weight: null }, null), "Layer 0 head 0.");
});

test("a long text's pictures show single weights around the query", () => {
  assert.equal(partAround({ n: 24, m: 24, offset: 0 }, 3), null);
  assert.deepEqual(partAround({ n: 4000, m: 4000, offset: 0 }, 1000), { row: 3, column: 3, top: 220, left: 220 });
  assert.deepEqual(partAround({ n: 4000, m: 4000, offset: 0 }, 256), { row: 1, column: 1, top: 0, left: 0 });
  assert.deepEqual(partAround({ n: 30, m: 30, offset: 0 }, 29), { row: 0, column: 0, top: 6, left: 6 });
  assert.deepEqual(partAround({ n: 2, m: 300, offset: 298 }, 1), { row: 0, column: 1, top: 0, left: 20 });
  const values = Float32Array.from({ length: 30 * 30 }, (_, at) => at);
  const { width, height, values: cut } = cutOut({ values, width: 30, height: 30 }, { top: 6, left: 6 });
  assert.deepEqual([width, height, cut[0], cut[24], cut.at(-1)], [24, 24, 6 * 30 + 6, 7 * 30 + 6, 899]);
});

test("probabilities read as per cent, and none is called nothing or all that is not", () => {
  assert.deepEqual([1, 0.99999, 0.5, 0.0005, 0].map(shareText), ["100.0 %", "> 99.9 %", "50.0 %", "< 0.1 %", "0.0 %"]);
});

test("the words after each layer are those of the position that writes the word", () => {
  const stage = (layer) => ({ name: "", layer, kind: "" });
  const info = { sections: ["decoder", "cross"], count: 5, stages: [stage(null), stage(0), stage(0), stage(1), stage(1)] };
  const about = (more) => ({ lens: info, output: { kind: "text" }, start: { section: "cross", query: 3 }, ...more });
  assert.equal(wordPosition(about(), { section: "encoder", query: 4 }), 2);
  assert.equal(wordPosition(about({ start: { section: "cross", query: 0 } }), { section: "encoder", query: 4 }), 0);
  assert.equal(wordPosition(about({ output: { kind: "next" } }), { section: "decoder", query: 1 }), 4);
  assert.equal(wordPosition(about(), { section: "decoder", query: 1 }), 1);
  const lens = { stages: ["a", "b", "c", "d", "e"].map((text, at) => ({ words: [{ text, probability: at / 10 }], rank: 1, probability: 0 })) };
  assert.deepEqual(wordsByLayer(info, lens), [
    { name: "at first", text: "a", probability: 0 },
    { name: "after layer 0", text: "c", probability: 0.2 },
    { name: "after layer 1", text: "e", probability: 0.4 },
  ]);
});
