"""The live page in a real browser, from a file and without a network: typed, written, shown, compared, stopped."""

from __future__ import annotations

import pytest
import torch

from sightline.tasks.box import box_folder
from sightline.tasks.opened import TaskModel

from ..browser import FAINT, shoot
from .tiny import saved

pytestmark = pytest.mark.browser

TEXT = "the cat sat on the mat ."
SENTENCE = "A dog is sleeping under the old tree."


@pytest.fixture
def tabs(tabs):
    tabs.context.set_offline(True)
    return tabs


@pytest.fixture
def open_page(tabs, sightline_command, tmp_path):
    """Opens the live page of a model about a text."""

    def run(model, *arguments):
        path = tmp_path / "page.html"
        ran = sightline_command("page", model, *arguments, "-o", path)
        assert ran.code == 0, ran.err
        return tabs.open(path.as_uri())

    return run


def ask(tab, text, trace):
    """Types a text, and waits until the page shows what the model made of it."""
    tab.fill("#ask-text", text)
    tab.keyboard.press("Enter")
    tab.wait_for_function(
        "(id) => document.getElementById('ask-cancel').hidden && location.hash.includes(`t=${id}&`)",
        arg=trace,
    )


def test_a_sentence_is_translated_in_the_page(open_page):
    """The words, and every weight of a head, as Python has them."""
    tab = open_page("translation")
    model = TaskModel(box_folder("translation"), "translation")
    assert tab.input_value("#ask-text") == "The cat sat on the mat."
    ask(tab, SENTENCE, "live-1")
    with torch.no_grad():
        (answer,) = model.task.answers(model.model, [SENTENCE], model.recipe, {})
    assert tab.inner_text(".answer-output") == answer["translation_text"]
    shoot(tab, "live")
    tab.select_option("#section", "cross")
    tab.select_option("#layer", "1")
    tab.select_option("#head", "2")
    matrix = model.read(SENTENCE).section("cross").layers[1]
    dense = matrix.dense()[0, 2]
    for query, key in ((1, 0), (3, 4), (5, 8)):
        tab.evaluate(
            "([query, key]) => (location.hash = location.hash.replace(/&[qk]=[^&]*/g, '') + `&q=${query}&k=${key}`)",
            [query, key],
        )
        tab.wait_for_function("() => document.getElementById('facts').textContent.includes('weight')")
        told = tab.inner_text("#facts")
        assert float(told.split("weight ")[1].split(" ")[0]) == pytest.approx(
            float(dense[query, key]), abs=1e-3
        )


def test_all_views_show_the_new_sentence(open_page, tmp_path):
    tab = open_page(saved(tmp_path, "encoder-decoder"), TEXT)
    ask(tab, "who saw the dog ?", "live-1")
    for id, part in (("text", "dog"), ("cross", "dog"), ("steps", "token"), ("atlas", "entropy")):
        tab.wait_for_function(
            "([id, part]) => document.getElementById(id).innerText.includes(part)", arg=[id, part]
        )
    tab.wait_for_function("() => document.querySelectorAll('#atlas canvas').length > 0")
    assert "who saw the dog ?" in tab.locator("#trace option").all_inner_texts()
    assert tab.evaluate(FAINT) == []


ASKED = """
window.asked = [];
window.Worker = class extends Worker {
  postMessage(request) {
    window.asked.push("cancel" in request ? "cancel" : request.what);
    super.postMessage(request);
  }
};
"""


def test_the_model_warms_up_until_it_is_asked(open_page, tabs, tmp_path):
    """It runs once after it was opened; a text that comes before that is done does not wait for it."""
    tabs.context.add_init_script(ASKED)
    tab = open_page(saved(tmp_path, "encoder-decoder"), TEXT)
    tab.wait_for_function("() => window.asked.includes('warm')")
    ask(tab, "who saw the dog ?", "live-1")
    warm, run = (tab.evaluate("(what) => window.asked.indexOf(what)", what) for what in ("warm", "run"))
    assert tab.evaluate("() => window.asked.indexOf('open')") < warm < run
    assert tab.inner_text("#ask-status") == ""
    ask(tab, "a dog sat", "live-2")
    assert tab.evaluate("() => window.asked.filter((what) => what === 'warm').length") == 1


@pytest.mark.slow
def test_runs_are_kept_and_compared(open_page, tmp_path):
    tab = open_page(saved(tmp_path, "encoder"), TEXT)
    ask(tab, "the dog sat", "live-1")
    ask(tab, "the dog sat down", "live-2")
    tab.click("#ask-compare")
    assert "b=0_" in tab.evaluate("location.hash") and "live-1" in tab.evaluate("location.hash")
    tab.click("#ask-compare")
    assert "live-1" not in tab.evaluate("location.hash")
    tab.select_option("#trace", "page")
    tab.wait_for_function("(text) => document.getElementById('ask-text').value === text", arg=TEXT)


@pytest.mark.slow
def test_errors_are_told_and_writing_can_be_stopped(open_page, tmp_path):
    tab = open_page(saved(tmp_path, "decoder", max_positions=400), TEXT)
    tab.fill("#ask-text", " ")
    tab.keyboard.press("Enter")
    assert tab.inner_text("#ask-status") == "Type a word first."
    ask(tab, "the cat", "live-1")
    assert len(tab.inner_text(".answer-output")) > 10
    tab.fill("#ask-text", "the cat sat " * 300)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#ask-cancel:not([hidden])")
    tab.click("#ask-cancel")
    tab.wait_for_function("() => document.getElementById('ask-status').textContent === 'Stopped.'")
    ask(tab, "a dog", "live-3")  # it runs again


@pytest.mark.slow
def test_a_browser_that_cannot_unpack_says_so(tabs, sightline_command, tmp_path):
    path = tmp_path / "page.html"
    assert sightline_command("page", saved(tmp_path, "encoder"), TEXT, "-o", path).code == 0
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace("globalThis).DecompressionStream", "globalThis).Nothing"), encoding="utf-8")
    tab = tabs.open(path.as_uri())
    tab.wait_for_function(
        "() => document.getElementById('ask-status').textContent.includes('DecompressionStream')"
    )
    assert tab.inner_text("#text").count("cat")  # what the page carries is there all the same
