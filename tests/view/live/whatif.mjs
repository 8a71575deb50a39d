/** What if, as the worker of a page answers it, without a worker: a model, a text and lists of changes in, answers out. */
import { readFileSync, writeFileSync } from "node:fs";
import { LiveSession } from "../../../src/sightline/view/web/live/session.js";

const [input, output] = process.argv.slice(2);
const { described, weights, tokenizer, base, lists } = JSON.parse(readFileSync(input, "utf8"));
const session = new LiveSession();
const nobody = async () => {};
await session.answer({ what: "open", described, weights, tokenizer }, nobody, () => {});
const answers = [];
for (const [at, changes] of lists.entries()) {
  const asked = { what: "whatIf", ...base, changes, trace: `live-${at}`, title: base.text, like: { flows: [], start: {} } };
  const { about, before, after } = await session.answer(asked, nobody, () => {});
  answers.push({ notices: about.notices, output: about.output, before, after });
}
const shares = [];
const effects = await session.answer({ what: "effects", ...base }, nobody, ({ share }) => shares.push(share));
writeFileSync(output, JSON.stringify({ answers, effects, shares }));
