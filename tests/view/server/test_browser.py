"""The served page in a real browser: a known weight appears under the pointer."""

from __future__ import annotations

import re

import pytest

from ..test_browser import browser  # noqa: F401
from .test_manners import running  # noqa: F401
from .test_values import dense

pytestmark = pytest.mark.browser


@pytest.fixture
def open_tab(browser, running):  # noqa: F811
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    problems = []

    def run(hash=""):
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.goto(running + "/" + hash)
        tab.wait_for_selector("html[data-ready][data-exact=true]")
        return tab

    yield run
    context.close()
    assert problems == []


def test_a_known_weight_under_the_pointer(open_tab, trace):
    tab = open_tab("#l=0&h=1&v=280_690_0.05")
    box = tab.locator("#map").bounding_box()
    # 20 pixels a weight: the pointer stands in the middle of query 700, key 290.
    tab.mouse.move(box["x"] + 1 + (290.5 - 280) * 20, box["y"] + 1 + (700.5 - 690) * 20)
    tab.wait_for_selector("#facts:has-text('rank')")
    line = tab.inner_text("#facts")
    expected = dense(trace, 0, 1)[700]
    assert "“t700” #700 → “t290” #290" in line
    assert float(re.search(r"weight ([\d.e-]+)", line)[1]) == pytest.approx(float(expected[290]), abs=6e-5)
    assert f"rank {int((expected > expected[290]).sum()) + 1} of 701" in line


def test_pin_search_and_address(open_tab, trace):
    tab = open_tab("#l=0&h=1")
    tab.fill("#wanted", "t77")
    tab.press("#wanted", "Enter")
    tab.wait_for_selector("#steps tbody tr")
    best = int(dense(trace, 0, 1)[77].nan_to_num(nan=-1).argmax())
    assert tab.inner_text("#steps tbody tr:first-child td:first-child") == f"#{best}"
    tab.keyboard.press("Tab")
    tab.locator("#map").focus()
    tab.keyboard.press("+")
    address = tab.evaluate("location.hash")
    assert "q=77" in address and "v=" in address
    again = open_tab(address)
    assert again.evaluate("location.hash") == address
    assert again.inner_text("#tokens .chosen span:first-child") == "#77"
    # A causal map: nothing above the diagonal, something below.
    whole = open_tab("#l=0&h=1")
    alpha = """([x, y]) => { const c = document.getElementById("map");
      return c.getContext("2d").getImageData(x * c.width, y * c.height, 1, 1).data[3]; }"""
    size = "(() => { const c = document.getElementById('map'); return c.width / c.height; })()"
    wide = whole.evaluate(size)
    left, right = (0.5 - 0.3 / wide, 0.5 + 0.3 / wide)
    assert whole.evaluate(alpha, [left, 0.8]) == 255
    assert whole.evaluate(alpha, [right, 0.2]) == 0


def test_phone_width(open_tab):
    tab = open_tab("#l=1")
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
