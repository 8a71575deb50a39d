/** Where a page's answers come from: requests that nobody waits for any more, and a server that is gone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CarriedSource } from "../../../src/sightline/view/web/source/carried.js";
import { ServedSource } from "../../../src/sightline/view/web/source/served.js";

function sourceWith() {
  const requests = [];
  let answer;
  const source = new CarriedSource({ layers: [{ tensors: {} }] }, () => "", (onMessage) => {
    answer = onMessage;
    return (request) => void requests.push(request);
  });
  return { source, requests, answer: (message) => answer(message) };
}

const place = { trace: "page", call: 0, head: "0" };
const tile = { level: 1, row: 0, column: 0 };

test("a request that is already aborted is not sent, and its layer still is when it is needed", async () => {
  const { source, requests, answer } = sourceWith();
  await assert.rejects(source.row(place, 0, 1, AbortSignal.abort()), { name: "AbortError" });
  assert.equal(requests.length, 0);
  const asked = source.row(place, 0, 1);
  assert.equal(requests[0].layers.length, 1);
  answer({ id: requests[0].id, answer: "row" });
  assert.equal(await asked, "row");
});

test("aborting tells the worker, and a late answer is dropped", async () => {
  const { source, requests, answer } = sourceWith();
  const controller = new AbortController();
  const asked = source.row(place, 0, 1, controller.signal);
  controller.abort();
  await assert.rejects(asked, { name: "AbortError" });
  assert.deepEqual(requests[1], { cancel: requests[0].id });
  answer({ id: requests[0].id, answer: "late" });
});

test("progress is that of the exact tile, and starts anew", async () => {
  const { source, requests, answer } = sourceWith();
  const asked = source.tile(place, tile, { reduce: "mean", quick: false });
  answer({ id: requests[0].id, share: 0.25 });
  assert.deepEqual(await source.progress(place), { share: 0.25, exact: false });
  assert.equal((await source.progress({ ...place, head: "1" })).share, 0);
  answer({ id: requests[0].id, answer: "tile" });
  assert.equal(await asked, "tile");
  assert.equal((await source.progress(place)).share, 0);
});

test("a text is found across pieces and accents, from a place on and around", async () => {
  const tokens = { texts: ["Nat", "ásh", "a", "and", "NATASHA"], words: [0, 0, 0, 1, 2] };
  const source = new CarriedSource({ tokens: { 0: tokens } }, () => "", () => () => {});
  assert.deepEqual(await source.find("t", "0", "natasha", 0), [0, 4]);
  assert.deepEqual(await source.find("t", "0", "natasha", 1), [4, 0]);
  assert.deepEqual(await source.find("t", "0", "zebra", 0), []);
});

/** A page whose server does not answer; `left` says whether the page is being left by then. */
async function failing(context, left) {
  const page = new EventTarget();
  context.mock.method(globalThis, "fetch", async () => {
    throw new TypeError("NetworkError");
  });
  globalThis.addEventListener = page.addEventListener.bind(page);
  context.after(() => delete globalThis.addEventListener);
  let told = null;
  new ServedSource().list().catch((error) => (told = error.message));
  await new Promise((resolve) => setTimeout(resolve, 1));
  if (left) page.dispatchEvent(new Event("pagehide"));
  await new Promise((resolve) => setTimeout(resolve, 400));
  return told;
}

test("a server that is gone is told", async (context) => {
  assert.match(await failing(context, false), /does not answer/);
});

test("what fails because the page is left is nobody's fault", async (context) => {
  assert.equal(await failing(context, true), null);
});
