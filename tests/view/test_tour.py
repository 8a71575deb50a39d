"""The guided tour in a real browser: by keyboard and by touch, with the page's numbers, left and taken up again."""

from __future__ import annotations

import math
import re

import pytest

import sightline

from .browser import FAINT, Tabs, open_menu
from .test_browser import NARROW, dense, patches  # noqa: F401
from .test_numbers import TEXT

pytestmark = pytest.mark.browser

STEPS = 7


@pytest.fixture
def new_here(browser, look, tmp_path):
    """Opens a page as on a first visit; at the end there must have been no error and no request."""
    tabs = Tabs(browser, tour=True)

    def run(*arguments, model="bert", hash=""):
        path = tmp_path / "page.html"
        assert look(*arguments, "--html", path, model=model).code == 0
        return tabs.open(path.as_uri() + hash)

    run.tabs = tabs
    yield run
    tabs.close()
    assert tabs.problems == []


def begin(tab):
    tab.click(".tour-start")
    wait_step(tab, 1)


def wait_step(tab, at):
    tab.wait_for_selector(f".tour-dots li:nth-child({at}) [aria-current=step]")
    assert tab.inner_text("#tour-title").startswith(f"{at} of {STEPS}")


def table(tab):
    """{key: last number} of the table that is shown."""
    rows = tab.locator(".tour-bars tbody tr").all_inner_texts()
    return {row.split("\t")[0]: row.split("\t")[-1].replace("−", "-") for row in rows}


def test_the_tour_by_keyboard_tells_the_pages_numbers(new_here, dense):  # noqa: F811
    # [CLS] the cat sat on the mat , un ##believ ##able ! [SEP]
    tab = new_here(TEXT, hash="#l=1&h=2&q=2")
    weights = dense[1][2, 2]
    begin(tab)
    assert tab.evaluate("document.activeElement.className") == "tour-next"
    dialog = tab.get_by_role("dialog", name="A text becomes tokens")
    assert dialog.is_visible() and "“cat”" in tab.inner_text(".tour-says")
    assert tab.locator(".tour-token[aria-pressed=true]").inner_text() == "cat"
    said = tab.locator(".tour-told")
    assert said.get_attribute("aria-live") == "polite"
    tab.keyboard.press("ArrowRight")
    wait_step(tab, 2)
    assert {"query", "key", "value"} <= set(tab.locator(".tour-says strong").all_inner_texts())
    assert tab.locator(".tour-card").count() == 3
    tab.keyboard.press("Enter")
    wait_step(tab, 3)
    assert re.search(r"/ √6 = .* = −?\d", tab.inner_text(".tour-picture"))
    scores = {key: float(text) for key, text in table(tab).items()}
    tab.keyboard.press("ArrowRight")
    wait_step(tab, 4)
    shown = table(tab)
    names = ["[CLS]", "The", "cat", "sat", "on", "the", "mat", ",", "un", "##believ", "##able", "!", "[SEP]"]
    top = weights.topk(8).indices.tolist()
    for at in top:
        text = next(text for key, text in shown.items() if key.strip("#") in names[at])
        expected = float(weights[at])
        assert text == "< 0.01" if expected < 0.005 else float(text) == pytest.approx(expected, abs=0.0051)
    keys = list(scores)
    ratios = [math.exp(scores[key] - scores[keys[0]]) for key in keys]
    largest = max(range(len(keys)), key=ratios.__getitem__)
    share = ratios[largest] / sum(ratios) * float(weights[top].sum())
    assert share == pytest.approx(float(weights.max()), abs=0.02), "weights are the softmax of the scores"
    assert tab.inner_text(".tour-bars tfoot").split()[-1] == "1.00"
    tab.keyboard.press("ArrowRight")
    wait_step(tab, 5)
    assert "context of “cat”" in tab.inner_text(".tour-values")
    tab.keyboard.press("ArrowLeft")
    wait_step(tab, 4)
    for _ in range(2):
        tab.keyboard.press("PageDown")
    wait_step(tab, 6)
    previous = [each.diagonal(offset=-1, dim1=1, dim2=2).mean(-1) for each in dense]
    layer = max(range(3), key=lambda at: float(previous[at].max()))
    head = int(previous[layer].argmax())
    other = (head + 1) % 4
    tab.click(f".tour-hunt [data-head='{layer}.{other}']")
    assert f"{float(previous[layer][other]):.2f}" in tab.inner_text(".tour-said")
    tab.click(f".tour-hunt [data-head='{layer}.{head}']")
    assert f"{float(previous[layer][head]):.2f}" in tab.inner_text(".tour-said")
    assert re.match("Yes|.*that is the most", tab.inner_text(".tour-said"))
    tab.keyboard.press("ArrowRight")
    wait_step(tab, 7)
    assert tab.evaluate("document.activeElement.className") == "tour-own", (
        "next is gone: what leads on has it"
    )
    for name in ("query", "key", "weight"):
        assert name in tab.inner_text(".tour-learnt")
    tab.keyboard.press("Enter")
    assert "sightline look" in tab.inner_text("#own") and not tab.is_visible("#tour")


@pytest.mark.slow
def test_the_tour_is_left_taken_up_again_and_offered_no_more(new_here):
    tab = new_here(TEXT)
    begin(tab)
    for step in (2, 3, 4):
        tab.keyboard.press("ArrowRight")
        wait_step(tab, step)
    tab.keyboard.press("Escape")
    assert not tab.is_visible("#tour") and "step 4 of 7" in tab.inner_text("#answer-side")
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    open_menu(tab)
    assert "step 4 of 7" in tab.inner_text("#tour-open")
    tab.click("#tour-open")
    wait_step(tab, 4)
    tab.click(".tour-dots li:last-child button")
    wait_step(tab, 7)
    tab.click(".tour-explore")
    assert tab.inner_text("#answer-side") == ""
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    assert tab.inner_text("#answer-side") == ""
    open_menu(tab)
    assert tab.inner_text("#tour-open") == "guided tour"
    # Who does not want it is not asked again, either.
    tab.evaluate("localStorage.clear()")
    tab.reload()
    tab.get_by_role("button", name="no, thanks").click()
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    assert tab.locator(".tour-offer").count() == 0


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_the_tour_on_a_phone(new_here, scheme):
    tab = new_here(TEXT)
    tab.set_viewport_size(NARROW)
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    begin(tab)
    swipe = """(from) => {
      const at = (x) => [new Touch({ identifier: 1, target: document.getElementById("tour"), clientX: x, clientY: 300 })];
      const send = (name, x, more) => document.getElementById("tour").dispatchEvent(new TouchEvent(name, more(at(x))));
      send("touchstart", from, (touches) => ({ touches, changedTouches: touches }));
      send("touchend", 390 - from, (changedTouches) => ({ touches: [], changedTouches }));
    }"""
    for at in range(1, STEPS + 1):
        wait_step(tab, at)
        if at == 6:
            tab.wait_for_selector(".tour-hunt canvas")
        assert tab.evaluate("document.getAnimations().length") == 0, "nothing moves where that is unwanted"
        assert tab.evaluate(FAINT) == []
        wide = "(({ scrollWidth: s, clientWidth: c }) => s - c)(document.querySelector('.tour-body'))"
        assert tab.evaluate(wide) == 0
        tab.evaluate(swipe, 340)
    tab.evaluate(swipe, 50)
    wait_step(tab, STEPS - 1)


@pytest.mark.slow
def test_the_tour_moves_where_motion_is_welcome(new_here):
    tab = new_here(TEXT)
    begin(tab)
    assert tab.evaluate("document.getAnimations().length") > 0
    tab.wait_for_function("() => document.getAnimations().every(({ playState }) => playState === 'finished')")
    tab.locator(".tour-token").nth(6).click()
    tab.wait_for_function("() => document.querySelector('.tour-says').textContent.includes('“mat”')")
    assert tab.evaluate("document.activeElement.textContent") == "mat", "the focus stays on the chosen word"


def test_the_tour_of_a_translation_ends_with_it(new_here):
    tab = new_here("The cat sat", "a dog saw", model="t5")
    assert tab.input_value("#section") == "cross"
    begin(tab)
    assert tab.locator(".tour-token").all_inner_texts() == ["The", "cat", "sat", "[SEP]"], (
        "the encoder's own text"
    )
    tab.click(".tour-dots li:last-child button")
    assert tab.inner_text(".tour-output") == "a dog saw"
    tab.wait_for_selector(".tour-cross:not([hidden])")
    assert re.search(r"At “\w+” one head looks at “.+” of the source: weight", tab.inner_text(".tour-cross"))
    tab.click(".tour-explore")
    assert tab.input_value("#section") == "encoder"


def test_the_tour_of_a_decoder_says_what_is_hidden(new_here):
    tab = new_here(TEXT, model="gpt2", hash="#l=0&h=1&q=3")
    begin(tab)
    tab.click(".tour-dots li:nth-child(3) button")
    assert "may not look at" in tab.inner_text(".tour-picture")


def test_no_tour_without_a_text(new_here, tmp_path):
    trace = patches("image")
    trace.save(tmp_path / "x.safetensors")
    sightline.load_trace(tmp_path / "x.safetensors").report(tmp_path / "x.html", title="image")
    tab = new_here.tabs.open((tmp_path / "x.html").as_uri())
    assert tab.locator(".tour-offer").count() == 0
    open_menu(tab)
    assert not tab.is_visible("#tour-open")
