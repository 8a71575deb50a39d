import assert from "node:assert/strict";
import { test } from "node:test";
import { colourMap, differenceMap } from "../../../src/sightline/view/web/common/colour.js";
import { niceStep, showWeight } from "../../../src/sightline/view/web/common/format.js";
import { cellMeant } from "../../../src/sightline/view/web/page/facts.js";
import { csvOf, xmlText } from "../../../src/sightline/view/web/common/save.js";
import { scaleOf } from "../../../src/sightline/view/web/common/scale.js";
import { TokenCache } from "../../../src/sightline/view/web/source/tokens.js";
import { fromAddress, START, Store, toAddress } from "../../../src/sightline/view/web/state.js";

test("an address holds everything", () => {
  const state = {
    ...START, trace: "a1", section: "cross_2", layer: 3, head: "max", query: 7, key: null, direction: "from", words: true,
    show: "rollout", scale: "log", ceiling: "99", reduce: "max", view: { x: 1.5, y: 2.25, per: 0.125 },
    versus: { trace: "b_2", section: "self", layer: 1, head: "0" }, compare: "difference", second: { query: 1, key: 2 },
    sort: "entropy", number: "distance", full: "map",
  };
  // A trace's id holds no underscore; a section's name may.
  state.versus.trace = "b2";
  assert.deepEqual({ ...START, ...fromAddress(toAddress(/** @type {any} */ (state))) }, state);
  assert.deepEqual({ ...START, ...fromAddress(toAddress(START)) }, START);
});

test("nonsense in an address does no harm", () => {
  const odd = fromAddress("#l=-1&h=<b>&q=1e9&d=up&c=x&v=1_2_-3&b=1_x&z=1_2_3&w=2&k=-");
  assert.deepEqual(odd, { words: false, key: null });
});

test("a store tells what changed, and nothing when nothing did", () => {
  const store = new Store({ ...START });
  const told = [];
  store.listen((changed) => told.push([...changed]));
  store.set({ layer: 2, head: "0" });
  store.set({ layer: 2 });
  store.set({ view: { x: 1, y: 1, per: 1 } });
  store.set({ view: { x: 1.001, y: 1, per: 1 } }); // the same in the address
  assert.deepEqual(told, [["layer"], ["view"]]);
});

test("the facts are about what is under the pointer, else about what is pinned in view", () => {
  const pinned = { query: 2, key: 40 };
  const seen = { queries: { from: 0, to: 9 }, keys: { from: 30, to: 40 } };
  assert.deepEqual(cellMeant(null, pinned, null), pinned);
  assert.deepEqual(cellMeant(null, pinned, seen), { query: 2, key: null });
  assert.deepEqual(cellMeant(null, { query: 9, key: 39 }, seen), { query: null, key: 39 });
  assert.deepEqual(cellMeant({ query: 1, key: 0 }, pinned, seen), { query: 1, key: 0 });
  assert.deepEqual(cellMeant({ query: 20, key: null }, pinned, null), { query: 20, key: 40 });
  assert.deepEqual(cellMeant(null, { query: null, key: null }, seen), { query: null, key: null });
});

test("scales end where they say", () => {
  const log = scaleOf("log", 100000, null);
  assert.equal(log.of(1), 1);
  assert.ok(log.of(1e-5) > 0 && log.of(1e-7) === 0 && log.of(0) === 0);
  assert.equal(scaleOf("linear", 10, 0.25).of(0.25), 1);
  assert.equal(scaleOf("sqrt", 10, null).of(0.25), 0.5);
});

test("text stands out from every colour by 4.5 : 1, and more weight is more colour", () => {
  const linear = (v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  for (const make of [colourMap, differenceMap]) {
    for (const dark of [false, true]) {
      const map = make(dark);
      for (let step = 0; step <= 100; step++) {
        const back = luminance(map.css(step / 100).match(/\d+/g).map(Number));
        const ink = map.ink(step / 100) === "#000" ? 0 : 1;
        assert.ok((Math.max(back, ink) + 0.05) / (Math.min(back, ink) + 0.05) >= 4.5, `${dark} ${step}`);
      }
      if (make === colourMap) {
        const ends = [0, 1].map((t) => luminance(map.css(t).match(/\d+/g).map(Number)));
        assert.equal(ends[1] > ends[0], dark);
      }
    }
  }
});

test("numbers as texts", () => {
  assert.deepEqual([0.5, 0, 1e-7, NaN, null].map(showWeight), ["0.5000", "0.0000", "1.0e-7", "hidden", "hidden"]);
  assert.deepEqual([0.3, 3, 30, 31].map(niceStep), [0.5, 5, 50, 50]);
});

test("files: fields with commas, quotes and formulas; markup in texts", () => {
  assert.equal(csvOf([["a,b", 'say "x"', "=1+1", 0.5, NaN]]), '"a,b","say ""x""",\'=1+1,0.5,\r\n');
  assert.equal(xmlText('<b a="1">&\u0000'), "&lt;b a=&quot;1&quot;&gt;&amp;\ufffd");
});

test("tokens come by the page; words are runs of one number", async () => {
  const asked = [];
  const source = {
    tokens: async (trace, side, from, count) => {
      asked.push(from);
      const places = Array.from({ length: Math.min(count, 5000 - from) }, (_, at) => from + at);
      return { texts: places.map((at) => `t${at}`), words: places.map((at) => at >> 1), special: places.map((at) => at === 0), glued: places.map((at) => at % 2 === 1) };
    },
  };
  let changes = 0;
  const cache = new TokenCache(/** @type {any} */ (source), "t", { id: "0", count: 5000, places: false }, () => (changes += 1));
  assert.equal(cache.text(4500), "");
  await cache.ready(4500, 4501);
  assert.deepEqual([cache.text(4500), cache.glued(4501), cache.word(4501)], ["t4500", true, { from: 4500, to: 4502 }]);
  assert.deepEqual([asked, changes], [[4096], 1]);
  const places = new TokenCache(/** @type {any} */ (source), "t", { id: "1", count: 9, places: true }, () => {});
  assert.deepEqual([places.text(3), places.word(3)], ["3", { from: 3, to: 4 }]);
});
