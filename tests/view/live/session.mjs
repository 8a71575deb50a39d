/** What the worker of a page answers, without a worker: a model and texts in, all that a page shows of them out. */
import { readFileSync, writeFileSync } from "node:fs";
import { LiveSession } from "../../../src/sightline/view/web/live/session.js";

const [input, output] = process.argv.slice(2);
const { described, weights, tokenizer, texts, like, whole } = JSON.parse(readFileSync(input, "utf8"));
const session = new LiveSession();
const nobody = async () => {};
await session.answer({ what: "open", described, weights, tokenizer }, nobody, () => {});
// Before a reader's texts a page runs its model once; nothing is kept of it, and nothing comes out otherwise.
await session.answer({ what: "warm", text: "The cat sat on the mat." }, nobody, () => {});
if (session.traces.size > 0) throw new Error("a run to warm up is kept");
const answers = [];
for (const [at, text] of texts.entries()) {
  const told = [];
  const trace = `live-${at}`;
  try {
    const start = process.cpuUsage();
    let first = null;
    const tell = (each) => {
      const { user, system } = process.cpuUsage(start);
      first ??= (user + system) / 1000;
      told.push(each.text);
    };
    const { about, sides, output: out } = await session.answer({ what: "run", text, trace, title: text, like }, nobody, tell);
    const { user, system } = process.cpuUsage(start);
    const answer = { about, sides, output: out, told, first, ms: (user + system) / 1000 };
    if (whole && at === 0) {
      const calls = about.sections.flatMap(({ layers }) => layers.map(({ call }) => call));
      answer.numbers = calls.map((call) => session.answer({ what: "numbers", trace, call }, nobody, () => {}));
      answer.thumbnails = calls.map((call) => {
        const { values, ...shape } = session.answer({ what: "thumbnails", trace, call }, nobody, () => {});
        return { ...shape, values: Array.from(values, (v) => (Number.isNaN(v) ? null : v)) };
      });
      answer.received = calls.map((call) => Array.from(session.traces.get(trace).answers.layer(call).tensors.received.data));
    }
    session.answer({ what: "forget", trace }, nobody, () => {});
    answers.push(answer);
  } catch (error) {
    answers.push({ error: error.message });
  }
}
writeFileSync(output, JSON.stringify(answers));
