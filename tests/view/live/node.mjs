/** Answers questions about models in the page's runtime: a JSON file with a list of them in, a JSON file out. */
import { readFileSync, writeFileSync } from "node:fs";
import { Capture } from "../../../src/sightline/view/web/live/capture.js";
import { Changes } from "../../../src/sightline/view/web/live/changes.js";
import { write } from "../../../src/sightline/view/web/live/generate.js";
import { TextModel } from "../../../src/sightline/view/web/live/model.js";
import { readWeights } from "../../../src/sightline/view/web/live/weights.js";
import { headOf } from "../../../src/sightline/view/web/compute/head.js";
import { meanRow } from "../../../src/sightline/view/web/compute/rows.js";

const list = (numbers) => Array.from(numbers);

/** Logits of a whole text, and every weight of every call as the page computes it. */
function look(model, { source, target, changes }) {
  const capture = new Capture();
  const watch = { changes: new Changes(changes), capture };
  const memory = source ? model.encode(source, watch) : null;
  const states = target ? model.decode(target, memory, watch) : memory.states;
  const logits = list(model.logits(states, (target ?? source).length, memory));
  const calls = capture.calls.map(({ section, name, layer }) => {
    const heads = Array.from({ length: layer.heads }, (_, at) => headOf(layer, at));
    const rows = heads.map((head) => Array.from({ length: head.n }, (_, i) => list(meanRow([head], "mean", i, i + 1)).map((w) => (Number.isNaN(w) ? 0 : w))));
    return { section, name, weights: rows };
  });
  const residual = Object.fromEntries(Object.entries(capture.residual).map(([name, all]) => [name, all.map(list)]));
  return { logits, calls, residual };
}

async function written(model, { source, target, options, changes }) {
  const start = process.cpuUsage();
  const watch = { changes: new Changes(changes), capture: null };
  const memory = source ? model.encode(source, watch) : null;
  const marks = [];
  const answer = await write(model, memory, target, options, async (ids) => {
    marks.push(ids.length);
  }, watch);
  const used = process.cpuUsage(start);
  return { ...answer, heard: marks.length, ms: (used.user + used.system) / 1000 };
}

const [input, output] = process.argv.slice(2);
const answers = [];
for (const { described, weights, asked } of JSON.parse(readFileSync(input, "utf8"))) {
  const model = new TextModel(described, await readWeights(weights));
  const of = [];
  for (const one of asked) of.push(one.options ? await written(model, one) : look(model, one));
  answers.push(of);
}
writeFileSync(output, JSON.stringify(answers));
