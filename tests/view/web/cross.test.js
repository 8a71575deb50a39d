import assert from "node:assert/strict";
import { test } from "node:test";
import { argmaxOf, middleOf, strongLinks } from "../../../src/sightline/view/web/cross/links.js";
import { besideMedium, isOfMedium, momentAt, patchAt, patchOf } from "../../../src/sightline/view/web/cross/medium.js";
import { fitsInLine, ribbonPath, ribbonWidth } from "../../../src/sightline/view/web/cross/ribbon.js";
import { unitsIn, windowAround } from "../../../src/sightline/view/web/cross/window.js";

const image = { kind: "image", width: 224, height: 112, rows: 2, columns: 4, first: 1 };
const sound = { kind: "sound", frames: 300, bins: 8, seconds: 3, first: 2, count: 150 };
const single = (at) => ({ from: at, to: at + 1 });

test("a window stays inside, and is whole where all has room", () => {
  assert.deepEqual(windowAround(0, 100, 40), { from: 0, to: 40 });
  assert.deepEqual(windowAround(50, 100, 40), { from: 30, to: 70 });
  assert.deepEqual(windowAround(99, 100, 40), { from: 60, to: 100 });
  assert.deepEqual(windowAround(5, 10, 40), { from: 0, to: 10 });
});

test("units of a window are whole words that follow one another", () => {
  const word = (at) => ({ from: at - (at % 3), to: at - (at % 3) + 3 });
  assert.deepEqual(unitsIn({ from: 4, to: 9 }, word), [{ from: 3, to: 6 }, { from: 6, to: 9 }]);
  assert.deepEqual(unitsIn({ from: 1, to: 3 }, single), [single(1), single(2)]);
});

test("links are each target's strongest sources, merged, above the threshold, strong ones last", () => {
  const rows = [Float32Array.from([0.1, 0.05, 0.8, 0.05]), Float32Array.from([NaN, 0.3, 0.35, 0.35])];
  const sources = [{ from: 0, to: 2 }, single(2), single(3)];
  const links = strongLinks(rows, sources, 0.1);
  assert.deepEqual(links.map(({ target, source }) => [target, source]), [[0, 0], [1, 0], [1, 1], [1, 2], [0, 1]]);
  assert.ok(Math.abs(links[0].weight - 0.15) < 1e-6);
  assert.equal(strongLinks([new Float32Array(9).fill(0.11)], Array.from({ length: 9 }, (_, at) => single(at)), 0.1).length, 3);
  assert.deepEqual(argmaxOf([...rows, Float32Array.from([NaN, NaN])]), [2, 2, -1]);
  assert.equal(middleOf([...rows, Float32Array.from([NaN, 1])]), 2);
});

test("ribbons go from the facing edges, as wide as their weight", () => {
  const [target, source] = [{ left: 10, top: 0, width: 20, height: 10 }, { left: 100, top: 80, width: 40, height: 10 }];
  const numbers = (path) => path.match(/-?[\d.]+/g).map(Number);
  const down = numbers(ribbonPath(target, source, false));
  assert.deepEqual([down.slice(0, 2), down.slice(-2)], [[20, 10], [120, 80]]);
  const right = numbers(ribbonPath(target, source, true));
  assert.deepEqual([right.slice(0, 2), right.slice(-2)], [[30, 5], [100, 85]]);
  assert.ok(ribbonWidth(0) >= 1 && ribbonWidth(0.5) * 2 === ribbonWidth(1) && ribbonWidth(2) === ribbonWidth(1));
  assert.ok(fitsInLine(["a", "b"], 100) && !fitsInLine(Array(20).fill("word"), 600));
});

test("patches and positions are each other's inverse", () => {
  for (let at = 1; at < 9; at++) {
    const { row, column } = patchOf(image, at);
    assert.equal(patchAt(image, (column + 0.5) / 4, (row + 0.5) / 2), at);
  }
  assert.equal(patchOf(image, 0), null);
  assert.equal(patchOf(image, 9), null);
  assert.equal(patchAt(image, 1, 0.5), null);
  assert.equal(patchAt(image, -0.01, 0.5), null);
  assert.equal(patchAt(image, 0.9999, 0.9999), 8);
});

test("moments cover the whole time", () => {
  assert.equal(momentAt(sound, 0), 2);
  assert.equal(momentAt(sound, 0.99999), 151);
  assert.equal(momentAt(sound, 1), null);
});

test("a medium belongs to sections with its positions; others stand beside it", () => {
  const section = (count) => ({ keys: { id: "x", count, places: true } });
  assert.ok(isOfMedium(section(9), image));
  assert.ok(isOfMedium(section(13), image), "register tokens may follow");
  assert.ok(!isOfMedium(section(8), image));
  assert.ok(!isOfMedium(section(500), sound));
  assert.ok(!isOfMedium(section(9), null));
  assert.deepEqual(besideMedium(image, 11), [0, 9, 10]);
});
