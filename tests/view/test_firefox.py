"""The page in Firefox: what it carries, what it computes, what is typed into it, and its tour."""

from __future__ import annotations

import pytest
import torch

from sightline.tasks.box import box_folder
from sightline.tasks.opened import TaskModel

from .firefox import Firefox

pytestmark = pytest.mark.browser

SENTENCE = "A dog is sleeping under the old tree."


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    opened = Firefox(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def browser(firefox):
    yield firefox
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
