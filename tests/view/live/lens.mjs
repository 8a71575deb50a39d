/** What the page's runtime says of every position in words: a JSON file with questions in, a JSON file out. */
import { readFileSync, writeFileSync } from "node:fs";
import { Capture } from "../../../src/sightline/view/web/live/capture.js";
import { Changes } from "../../../src/sightline/view/web/live/changes.js";
import { LiveLens } from "../../../src/sightline/view/web/live/lens.js";
import { TextModel } from "../../../src/sightline/view/web/live/model.js";
import { readWeights } from "../../../src/sightline/view/web/live/weights.js";

function said(model, { source, target }) {
  const capture = new Capture();
  const watch = { changes: new Changes(), capture };
  const memory = source ? model.encode(source, watch) : null;
  if (target) model.decode(target, memory, watch);
  const ids = target ?? source;
  const lens = LiveLens.of(model, capture, ids, (id) => `#${id}`, []);
  return lens && { about: lens.about(), said: ids.map((_, at) => lens.at(at)) };
}

const [input, output] = process.argv.slice(2);
const answers = [];
for (const { described, weights, asked } of JSON.parse(readFileSync(input, "utf8"))) {
  const model = new TextModel(described, await readWeights(weights));
  answers.push(asked.map((one) => said(model, one)));
}
writeFileSync(output, JSON.stringify(answers));
