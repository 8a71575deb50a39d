import assert from "node:assert/strict";
import { test } from "node:test";
import { ceilingOf } from "../../../src/sightline/view/web/map/ceiling.js";
import { cellNames, copyTile } from "../../../src/sightline/view/web/map/cells.js";
import { DifferenceTiles, subtract } from "../../../src/sightline/view/web/map/difference.js";
import { pinchOf } from "../../../src/sightline/view/web/common/touch.js";
import { axisLabels, labelRoom, labelWidth } from "../../../src/sightline/view/web/map/labels.js";
import { insideView, levelOf, parentOf, visibleTiles, wholeView, zoomedView } from "../../../src/sightline/view/web/map/pyramid.js";
import { Tiles } from "../../../src/sightline/view/web/map/tiles.js";

test("a level has cells of about a pixel or more", () => {
  assert.deepEqual([0.1, 1, 1.2, 1.3, 2, 2.6, 255, 1e9].map((per) => levelOf(per, 9)), [0, 0, 0, 1, 1, 2, 8, 9]);
});

test("the whole view shows the whole matrix in the fewest tiles, the middle first", () => {
  const view = wholeView(800, 600, 100000, 100000);
  assert.ok(view.x < 0 && view.y === 0);
  const tiles = visibleTiles(view, 800, 600, 7, 100000, 100000);
  assert.equal(tiles.length, 16);
  assert.deepEqual(tiles[0], { level: 7, row: 1, column: 1 }); // around 50,000
  assert.deepEqual(tiles[15], { level: 7, row: 3, column: 3 });
  assert.deepEqual(visibleTiles({ x: 5000, y: 0, per: 1 }, 10, 10, 0, 100, 100), []);
});

test("zooming keeps what is under the pointer there", () => {
  const before = { x: 4000, y: 3000, per: 10 };
  const after = zoomedView(before, 0.5, 200, 100, 800, 600, 100000, 100000);
  assert.ok(Math.abs(before.x + 200 * before.per - (after.x + 200 * after.per)) < 1e-6);
  assert.ok(Math.abs(before.y + 100 * before.per - (after.y + 100 * after.per)) < 1e-6);
  const out = zoomedView(before, 1e9, 0, 0, 800, 600, 100000, 100000);
  assert.deepEqual(out, wholeView(800, 600, 100000, 100000));
});

test("a view stays inside, and a parent covers its tile", () => {
  assert.deepEqual(insideView({ x: -50, y: 99990, per: 1 }, 800, 600, 100000, 100000), { x: 0, y: 99400, per: 1 });
  assert.deepEqual(parentOf({ level: 2, row: 5, column: 4 }), { level: 3, row: 2, column: 2 });
});

test("a fitted scale ends at the largest value, or at a percentile of those that are not 0", () => {
  const values = Float32Array.from({ length: 101 }, (_, at) => at / 100);
  const hidden = Float32Array.of(NaN, NaN);
  const near = (found, expected) => assert.ok(Math.abs(found - expected) < 0.011, `${found}`);
  near(ceilingOf([values, hidden], "view"), 1);
  near(ceilingOf([values, hidden], "95"), 0.96);
  near(ceilingOf([Float32Array.of(-0.5, 0.25)], "view"), 0.5); // of differences
  assert.equal(ceilingOf([hidden], "view"), null);
});

test("labels: every token where there is room, else round places", () => {
  const tokens = { text: (at) => ["the", "cat", "sat"][at % 3] };
  assert.deepEqual(axisLabels(tokens, 1, 3, 20), [{ at: 1, text: "cat" }, { at: 2, text: "sat" }]);
  const far = axisLabels(tokens, 100, 4000, 0.1);
  assert.ok(far.every(({ at }) => at % 500 === 0) && far.length === 7);
  assert.equal(far[1].text, "cat 1,000");
});

test("a difference is absent where either may not look", () => {
  assert.deepEqual(Array.from(subtract(Float32Array.of(0.5, NaN, 1), Float32Array.of(0.25, 1, NaN))), [0.25, NaN, NaN]);
  const tiles = (value, sampled) => ({ get: () => ({ values: Float32Array.of(value), width: 1, height: 1, sampled }) });
  const difference = new DifferenceTiles(/** @type {any} */ (tiles(0.75, false)), /** @type {any} */ (tiles(0.5, true)));
  assert.deepEqual(difference.get({}), { values: Float32Array.of(0.25), width: 1, height: 1, sampled: true });
});

test("cells of tiles are cut to the view, and named", () => {
  const region = { top: 254, left: 0, cell: 1, width: 2, height: 4 };
  const values = new Float32Array(8).fill(NaN);
  const tile = (height) => ({ values: Float32Array.from({ length: 256 * height }, (_, at) => at), width: 256, height });
  copyTile(tile(256), { row: 0, column: 0 }, region, values);
  copyTile(tile(256), { row: 1, column: 0 }, region, values);
  assert.deepEqual(Array.from(values), [254 * 256, 254 * 256 + 1, 255 * 256, 255 * 256 + 1, 0, 1, 256, 257]);
  assert.deepEqual(cellNames({ text: (at) => `t${at}` }, 0, 2, 1), ["#0 t0", "#1 t1"]);
  assert.deepEqual(cellNames({ text: () => "" }, 0, 10, 4), ["#0–3", "#4–7", "#8–9"]);
});

test("tiles: sampled ones first, then exact; what goes out of view is let go of", async () => {
  const asked = [];
  const source = {
    tile: (place, tile, { quick, signal }) =>
      new Promise((done, failed) => {
        asked.push({ tile, quick, done, signal });
        signal.addEventListener("abort", () => failed(new Error("stopped")));
      }),
  };
  const failures = [];
  const tiles = new Tiles(/** @type {any} */ (source), () => {}, (error) => failures.push(error));
  tiles.use({ trace: "t", call: 0, head: "0" }, "mean");
  const at = (column) => ({ level: 0, row: 0, column });
  const rest = () => new Promise((resolve) => setTimeout(resolve, 0));
  tiles.want([at(0), at(1)]);
  assert.deepEqual(asked.map(({ quick }) => quick), [true, true]);
  asked[0].done({ sampled: true, values: new Float32Array(1) });
  await rest();
  assert.equal(asked.length, 2); // the other is still missing: nothing is refined yet
  tiles.want([at(0)]);
  await rest();
  assert.ok(asked[1].signal.aborted);
  assert.equal(asked[2].quick, false);
  assert.equal(tiles.open, 1);
  asked[2].done({ sampled: false, values: new Float32Array(1) });
  await rest();
  assert.equal(tiles.open, 0);
  assert.deepEqual(failures, []);
});

test("labels have the room that they need, and it does not change while one moves", () => {
  const of = (texts) => ({ text: (at) => texts[at] ?? "" });
  const short = of(["The", "cat", "sat"]);
  const flat = labelRoom({ queries: short, keys: short }, 3, 3, 600, 600);
  assert.equal(flat.top, 44, "short labels stand side by side");
  const long = of(["unbelievable", "straightforward", "transformation"]);
  const leaning = labelRoom({ queries: short, keys: long }, 3, 3, 300, 300);
  assert.ok(leaning.top > flat.top && leaning.top < 120, String(leaning.top));
  assert.ok(labelRoom({ queries: long, keys: short }, 3, 3, 600, 600).left >= labelWidth("straightforwa…"));
  assert.ok(labelRoom({ queries: long, keys: long }, 3, 3, 200, 200).left <= 0.34 * 200, "the cells keep most of it");
  const none = of([]);
  assert.deepEqual(labelRoom({ queries: none, keys: none }, 5000, 5000, 600, 600), labelRoom({ queries: long, keys: long }, 5000, 5000, 600, 600));
  assert.ok(labelWidth("漢字") > labelWidth("ab"));
});

test("two fingers zoom by how far they go apart, and move by their middle", () => {
  const before = [{ x: 100, y: 100 }, { x: 200, y: 100 }];
  assert.deepEqual(pinchOf(before, [{ x: 50, y: 120 }, { x: 250, y: 120 }]), { factor: 0.5, at: { x: 150, y: 120 }, by: { x: 0, y: 20 } });
  assert.equal(pinchOf(before, [{ x: 100, y: 100 }, { x: 150, y: 100 }]).factor, 2);
  assert.ok(Number.isFinite(pinchOf(before, [{ x: 5, y: 5 }, { x: 5, y: 5 }]).factor), "fingers that meet");
});
