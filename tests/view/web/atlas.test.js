import assert from "node:assert/strict";
import test from "node:test";
import { LayerLoader } from "../../../src/sightline/view/web/atlas/loader.js";
import { meansOver, nameOfNumber, showHeadNumber } from "../../../src/sightline/view/web/atlas/names.js";
import { rove } from "../../../src/sightline/view/web/atlas/rove.js";
import { rowsOfHeads, sortHeads } from "../../../src/sightline/view/web/atlas/sort.js";

const LAYERS = [
  { rows: 4, of: 4, sampled: false, heads: { entropy: [0.5, 2], distance: [3, 3] }, labels: [null, "sink"] },
  { rows: 4, of: 4, sampled: false, heads: { entropy: [1, NaN], distance: [3, 9] }, labels: ["previous token", null] },
];
const names = (rows) => rows.map(({ layer, head }) => `${layer}.${head}`);

test("heads of all layers become rows with their own numbers and labels", () => {
  const rows = rowsOfHeads(LAYERS);
  assert.deepEqual(names(rows), ["0.0", "0.1", "1.0", "1.1"]);
  assert.deepEqual(rows[2], { layer: 1, head: 0, label: "previous token", numbers: { entropy: 1, distance: 3 } });
});

test("sorting goes by the number, equals keep the order of layers, and what is missing comes last either way", () => {
  const rows = rowsOfHeads(LAYERS);
  assert.deepEqual(names(sortHeads(rows, "entropy", true)), ["0.1", "1.0", "0.0", "1.1"]);
  assert.deepEqual(names(sortHeads(rows, "entropy", false)), ["0.0", "1.0", "0.1", "1.1"]);
  assert.deepEqual(names(sortHeads(rows, "distance", true)), ["1.1", "0.0", "0.1", "1.0"]);
  assert.deepEqual(names(sortHeads(rows, "label", false)), ["1.0", "0.1", "0.0", "1.1"]);
  assert.deepEqual(names(sortHeads(rows, "layer", true)), ["1.1", "1.0", "0.1", "0.0"]);
  assert.deepEqual(names(rows), ["0.0", "0.1", "1.0", "1.1"], "the rows themselves are left alone");
});

test("numbers of 10 and more heads sort as numbers, not as text", () => {
  const many = [{ rows: 1, of: 1, sampled: false, heads: { entropy: Array.from({ length: 12 }, (_, at) => at) }, labels: [] }];
  assert.deepEqual(names(sortHeads(rowsOfHeads(many), "entropy", true)).slice(0, 3), ["0.11", "0.10", "0.9"]);
});

test("arrows stay inside, and keep to a line's end where the next is shorter", () => {
  const lengths = [10, 10, 3];
  assert.deepEqual(rove("ArrowLeft", { line: 1, at: 0 }, lengths), { line: 1, at: 0 });
  assert.deepEqual(rove("ArrowRight", { line: 1, at: 9 }, lengths), { line: 1, at: 9 });
  assert.deepEqual(rove("ArrowUp", { line: 0, at: 4 }, lengths), { line: 0, at: 4 });
  assert.deepEqual(rove("ArrowDown", { line: 1, at: 7 }, lengths), { line: 2, at: 2 });
  assert.deepEqual(rove("PageUp", { line: 2, at: 1 }, lengths), { line: 0, at: 1 });
  assert.deepEqual(rove("End", { line: 2, at: 0 }, lengths), { line: 2, at: 2 });
  assert.equal(rove("Enter", { line: 0, at: 0 }, lengths), null);
});

test("numbers say their unit and over what they are means", () => {
  assert.equal(nameOfNumber("entropy"), "entropy (nats)");
  assert.equal(showHeadNumber("distance", 12.345), "12.3");
  assert.equal(showHeadNumber("induction", undefined), "–");
  assert.equal(meansOver({ rows: 128, of: 100000, sampled: true, heads: {}, labels: [] }), "means over 128 sampled rows of 100,000");
  assert.equal(meansOver({ rows: 7, of: 7, sampled: false, heads: {}, labels: [] }), "means over all 7 rows");
});

/** A source whose answers are given by hand. */
class Slow {
  constructor() {
    this.asked = [];
    this.most = 0;
    this.running = 0;
  }

  numbers(trace, call, signal) {
    this.most = Math.max(this.most, ++this.running);
    return new Promise((resolve, reject) => {
      const end = (settle) => (value) => {
        this.running -= 1;
        settle(value);
      };
      this.asked.push({ call, answer: end(resolve), fail: end(reject) });
      signal.addEventListener("abort", () => end(reject)(new Error("aborted")));
    });
  }
}
const job = (call) => ({ trace: "t", call, kind: /** @type {"numbers"} */ ("numbers") });
const soon = () => new Promise((resolve) => setTimeout(resolve, 0));
const calls = (source) => source.asked.map(({ call }) => call);

test("two layers are fetched at once, what is in sight before what a sort waits for", async () => {
  const source = new Slow();
  const loader = new LayerLoader(/** @type {any} */ (source), () => {});
  const shares = [];
  const all = loader.all([0, 1, 2, 3].map(job), new AbortController().signal, (share) => shares.push(share));
  loader.want([job(3)]);
  assert.deepEqual(calls(source), [0, 1]);
  source.asked[0].answer("zero");
  await soon();
  assert.deepEqual(calls(source), [0, 1, 3]);
  for (let at = 1; at < 4; at++) {
    source.asked[at].answer(String(at));
    await soon();
  }
  await all;
  assert.equal(source.most, 2);
  assert.equal(loader.get(job(0)), "zero");
  assert.deepEqual(shares, [0, 0.25, 0.5, 0.75, 1]);
});

test("what goes out of sight is stopped and comes when it is wanted again; a failure waits for another try", async () => {
  const source = new Slow();
  const loader = new LayerLoader(/** @type {any} */ (source), () => {});
  loader.want([job(0)]);
  loader.want([job(1)]);
  await soon();
  assert.equal(source.running, 1, "the first was stopped");
  source.asked[1].fail(new Error("no memory"));
  await soon();
  loader.want([job(1), job(0)]);
  await soon();
  assert.deepEqual(calls(source), [0, 1, 0], "what failed is not asked for again by itself");
  assert.equal(loader.error(job(1)).message, "no memory");
  loader.again();
  assert.deepEqual(calls(source), [0, 1, 0, 1]);
});

test("a cancelled wait rejects, stops its own work, and one failure ends a wait", async () => {
  const source = new Slow();
  const loader = new LayerLoader(/** @type {any} */ (source), () => {});
  const stop = new AbortController();
  const all = loader.all([job(0), job(1)], stop.signal, () => {});
  stop.abort();
  await assert.rejects(all, /stopped/);
  await soon();
  assert.equal(source.running, 0);
  const failing = loader.all([job(0), job(1)], new AbortController().signal, () => {});
  source.asked.at(-1).fail(new Error("no memory"));
  await assert.rejects(failing, /no memory/);
});
