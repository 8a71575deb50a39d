"""The pure parts of the served page, in node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sightline.view import modules

TESTS = """
import test from "node:test";
import assert from "node:assert/strict";
import { fromAddress, toAddress } from "./served/address.js";
import { insideView, levelOf, parentOf, visibleTiles, wholeView, zoomedView } from "./served/pyramid.js";
import { scaleOf } from "./served/scale.js";

test("a level has cells of at least a pixel", () => {
  assert.deepEqual([0.1, 1, 1.9, 2, 255, 1e9].map((per) => levelOf(per, 9)), [0, 0, 0, 1, 7, 9]);
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

test("a view stays inside", () => {
  assert.deepEqual(insideView({ x: -50, y: 99990, per: 1 }, 800, 600, 100000, 100000), { x: 0, y: 99400, per: 1 });
});

test("a parent covers its tile", () => {
  assert.deepEqual(parentOf({ level: 2, row: 5, column: 4 }), { level: 3, row: 2, column: 2 });
});

test("an address holds everything, and nonsense in it does no harm", () => {
  const shown = { trace: "a1", call: 3, head: "max", query: 7, key: null, direction: "from", scale: "sqrt",
    fit: true, reduce: "max", view: { x: 1.5, y: 2.25, per: 0.125 } };
  assert.deepEqual(fromAddress(toAddress(shown)), shown);
  const odd = fromAddress("#l=-1&h=<b>&q=1e9&d=up&c=x&v=1_2_-3");
  assert.deepEqual([odd.call, odd.head, odd.query, odd.direction, odd.scale, odd.view], [0, "0", null, "to", "log", null]);
});

test("scales end where they say", () => {
  const log = scaleOf("log", 100000, null);
  assert.equal(log.of(1), 1);
  assert.ok(log.of(1e-5) > 0 && log.of(1e-7) === 0 && log.of(0) === 0);
  assert.equal(scaleOf("linear", 10, 0.25).of(0.25), 1);
  assert.equal(scaleOf("sqrt", 10, null).of(0.25), 0.5);
});
"""


def test_pure_parts(tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    web = tmp_path / "web"
    shutil.copytree(Path(modules.__file__).parent / "web", web)
    (web / "package.json").write_text('{"type": "module"}')
    (web / "pure.test.js").write_text(TESTS, encoding="utf-8")
    ran = subprocess.run(["node", "--test", "pure.test.js"], cwd=web, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
