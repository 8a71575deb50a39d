"""The page in Firefox: what it carries, what is typed into it, its tour; and a served page with a what-if."""

from __future__ import annotations

import pytest
import torch

from sightline.commands.opening import open_model
from sightline.interventions.written import read_changes
from sightline.tasks.box import box_folder
from sightline.tasks.opened import TaskModel
from sightline.view.server.reader import Reader
from sightline.view.server.service import Service
from sightline.view.server.whatif import changed, rooms_of

from .firefox import LOCAL, Firefox
from .server.serving import served

pytestmark = pytest.mark.browser

SENTENCE = "A dog is sleeping under the old tree."


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    opened = Firefox(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def browser(firefox):
    """The running Firefox; at the end there must have been no error and no request elsewhere."""
    yield firefox
    firefox.allowed = LOCAL
    problems, firefox.problems = firefox.problems, []
    assert problems == []


@pytest.fixture(scope="module")
def live_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "page.html"
    sightline_page(path)
    return path.as_uri()


def sightline_page(path):
    from sightline.cli import main

    assert main(["page", "translation", "-o", str(path)]) == 0


def show(browser, selector):
    return browser.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")


def test_a_sentence_is_translated_and_seen(browser, live_page):
    """The words are Python's, and so are weights that the worker computes."""
    browser.open(live_page)
    assert browser.evaluate("document.querySelector('#ask-text').value") == "The cat sat on the mat."
    browser.evaluate("document.querySelector('#ask-text').select()")
    browser.evaluate("document.querySelector('#ask-text').focus()")
    browser.press(SENTENCE, "Enter")
    browser.wait("document.getElementById('ask-cancel').hidden && location.hash.includes('t=live-1&')")
    model = TaskModel(box_folder("translation"), "translation")
    with torch.no_grad():
        (answer,) = model.task.answers(model.model, [SENTENCE], model.recipe, {})
    assert show(browser, ".answer-output") == answer["translation_text"]
    browser.evaluate("location.hash = location.hash.replace(/&[qk]=[^&]*/g, '') + '&q=3&k=4'")
    browser.wait("document.getElementById('facts').textContent.includes('weight')")
    place = dict(
        part.split("=") for part in browser.evaluate("location.hash.slice(1)").split("&") if "=" in part
    )
    dense = model.read(SENTENCE).section(place["s"]).layers[int(place["l"])].dense()[0, int(place["h"])]
    told = float(show(browser, "#facts").split("weight ")[1].split(" ")[0])
    assert told == pytest.approx(float(dense[3, 4]), abs=1e-3)
    for view, part in (("text", "dog"), ("cross", "dog"), ("steps", "token"), ("atlas", "entropy")):
        browser.wait(f"document.getElementById({view!r}).innerText.includes({part!r})")
    browser.wait("document.querySelectorAll('#atlas canvas').length > 0")


def test_the_tour_is_walked_by_keys(browser, live_page):
    browser.open(live_page, width=390, height=800)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate(
        "[...document.querySelectorAll('button')].find((b) => b.innerText.includes('tour')).click()"
    )
    for step in range(1, 8):
        browser.wait(f"(document.querySelector('dialog[open]')?.innerText ?? '').includes('{step} of 7')")
        browser.press("ArrowRight")
    browser.press("Escape")
    browser.wait("!document.querySelector('dialog[open]')")


def test_a_layer_away_in_a_served_page(browser):
    """Firefox asks, the server's model answers: the label's shares are Python's."""
    service = Service([])
    opened = open_model("sentiment")
    service.reader = Reader("sentiment", lambda name: opened, service.add)
    trace = service.reader.read_now("A warm and funny film.")
    service.add(trace)
    changes = read_changes([{"kind": "ablate", "section": "encoder", "layer": 0}], rooms_of(trace.reading))
    _, before, after = changed(opened, trace, changes, lambda: None)
    with served(service) as address:
        browser.allowed = (address, *LOCAL)
        browser.open(f"{address}/#t={trace.id}&s=encoder&l=0")
        browser.evaluate("document.getElementById('whatif-layer').click()")
        browser.wait("document.querySelector('#whatif .whatif-outcome')?.checkVisibility()")
        assert "encoder 0: the whole layer away" in show(browser, "#whatif .whatif-changes")
        cells = "[...document.querySelectorAll('#whatif tbody tr')].map((row) => row.innerText).join('|')"
        rows = [row.split() for row in browser.evaluate(cells).replace(" %", "").split("|")]
        # What the page still waits for ends with it, and may say so.
        browser.open("about:blank", ready="true")
        browser.problems = [each for each in browser.problems if not each.startswith("AbortError")]
    shown = {label: [float(share) for share in shares] for label, *shares in rows}
    sides = [dict(outcome.candidates[0]) for outcome in (before, after)]
    assert shown == {
        label: pytest.approx([100 * side[label] for side in sides], abs=0.051) for label in sides[0]
    }
    assert max(sides[0].values()) != pytest.approx(max(sides[1].values()), abs=0.01)
