"""The pictures of the documentation, by the model that comes for translation: made when they are asked for."""

from __future__ import annotations

import pytest

from .browser import SCREENSHOTS, shoot
from .test_browser import NARROW, hover_cell, settled, token, wait_facts

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(SCREENSHOTS is None, reason="make screenshots makes them"),
]

SENTENCE = "The cat sat on the mat."


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from sightline.cli import main

    path = tmp_path_factory.mktemp("pictures") / "page.html"
    assert main(["look", SENTENCE, "--html", str(path)]) == 0
    return path.as_uri()


@pytest.fixture
def open_tab(tabs, page):
    def run(hash="", size=None):
        tab = tabs.open(page + hash)
        tab.emulate_media(reduced_motion="reduce")
        if size:
            tab.set_viewport_size(size)
        tab.wait_for_function("() => document.querySelectorAll('#atlas .atlas-picture canvas').length > 0")
        tab.mouse.move(0, 0)
        tab.wait_for_timeout(500)
        return tab

    return run


def test_the_page(open_tab):
    shoot(open_tab(), "page")
    shoot(open_tab(size=NARROW), "phone")


def test_the_views(open_tab):
    tab = open_tab()
    for name in ("cross", "atlas", "text"):
        shoot(tab, name, f"#{name}")
    tab.select_option("#section", "encoder")
    tab.wait_for_selector("#steps .steps-names button")
    hover_cell(tab, 5, 2)
    wait_facts(tab, "→", "weight")
    settled(tab)
    shoot(tab, "map", "#map")
    token(tab, 5).click()
    tab.locator("#steps .steps-names button").get_by_text("weights").click()
    tab.wait_for_selector("#steps .steps-bar")
    shoot(tab, "steps", "#steps")


def test_the_tour(open_tab):
    tab = open_tab()
    tab.click("#menu-button")
    tab.click("#tour-open")
    tab.click(".tour-dots li:nth-child(4) button")
    tab.wait_for_selector(".tour-bars tfoot")
    shoot(tab, "tour", "#tour")
