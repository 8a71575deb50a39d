"""The panel of a served page: a layer away, heads that mattered, and what cannot be asked."""

from __future__ import annotations

import threading

import pytest

from sightline.commands.opening import open_model
from sightline.view.server import reader as reading
from sightline.view.server.reader import Reader

from ..browser import Tabs, shoot

pytestmark = pytest.mark.browser
READY = "#whatif .whatif-outcome:not([hidden])"


@pytest.fixture
def open_tab(browser, running):
    tabs = Tabs(browser, allowed=(running, "blob:", "data:"))
    yield lambda hash="": tabs.open(running + "/" + hash)
    tabs.close()
    assert tabs.problems == []


@pytest.fixture
def read(service):
    """Reads a text with a model of the box; the trace's id."""

    def run(model, text):
        service.reader = Reader(model, open_model, service.add)
        opened = service.reader.read_now(text)
        service.add(opened)
        return opened.id

    return run


@pytest.mark.slow
def test_a_layer_away_turns_the_label(open_tab, read, service):
    trace = read("sentiment", "A warm and funny film.")
    tab = open_tab(f"#t={trace}")
    tab.click("#whatif-layer")
    tab.wait_for_selector(READY)
    assert "encoder 0: the whole layer away" in tab.inner_text("#whatif .whatif-changes")
    assert "label" in tab.inner_text("#whatif thead")
    assert len(tab.locator("#whatif tbody tr").all()) == 2
    changed = next(name for name, each in service.traces.items() if each.asked and each.asked.of == trace)
    tab.wait_for_function("() => location.hash.includes('b=')")
    assert changed in tab.evaluate("() => location.hash")
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    # A trace that is a change shows the list of what it is a change of; a saved one has no panel.
    tab.select_option("#place select", changed)
    tab.wait_for_function("() => !document.querySelector('#whatif').hidden")
    tab.select_option("#place select", next(iter(service.traces)))
    tab.wait_for_function("() => document.querySelector('#whatif').hidden")


def test_heads_that_mattered_can_be_cancelled(open_tab, read, monkeypatch):
    trace = read("sentiment", "A warm and funny film.")
    gate = threading.Event()

    def slow(opened, base, progress):
        while not gate.wait(0.02):
            progress(1, 3)
        return {
            "about": "probability",
            "baseline": 0.8,
            "sections": {"encoder": [[0.1, -0.25, 0.0, 0.5]] * 2},
        }

    monkeypatch.setattr(reading, "effects_of_heads", slow)
    tab = open_tab(f"#t={trace}")
    tab.click("#whatif-heads")
    tab.wait_for_function("() => document.querySelector('#whatif progress')?.value > 0.3")
    tab.get_by_role("button", name="cancel").click()
    assert tab.inner_text("#whatif .whatif-progress") == "Stopped."
    gate.set()
    tab.click("#whatif-heads")
    tab.wait_for_function("() => document.querySelector('#atlas .atlas-number').textContent === '+0.10'")
    assert tab.locator("#atlas .atlas-number").all_inner_texts() == ["+0.10", "−0.25", "+0.000", "+0.50"] * 2


@pytest.mark.slow
def test_the_picture_of_the_documentation(open_tab, read):
    trace = read("translation", "The cat sat on the mat.")
    tab = open_tab(f"#t={trace}&s=cross&l=0&h=1&q=2&k=1&w=0")
    tab.click("#whatif-token")
    tab.wait_for_selector(READY)
    shoot(tab, "whatif", "#whatif")
