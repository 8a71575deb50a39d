"""The page in a real browser: hovering shows exact numbers, and nothing goes wrong on the console."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from .test_numbers import IDS, TEXT, ids

CHROMIUM = os.environ.get("SIGHTLINE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, look, tmp_path):
    """Opens the page about ARGUMENTS; at the end there must have been no error and no request."""
    context = browser.new_context()
    problems = []

    def run(*arguments, model="bert", hash=""):
        path = tmp_path / "page.html"
        ran = look(*arguments, "--html", path, model=model)
        assert ran.code == 0, ran.err
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on(
            "request",
            lambda asked: asked.url.startswith(("file:", "blob:", "data:")) or problems.append(asked.url),
        )
        tab.goto(path.as_uri() + hash)
        tab.wait_for_selector("html[data-ready]")
        return tab

    yield run
    context.close()
    assert problems == []


def facts(tab):
    return tab.inner_text("#facts")


def test_hover_shows_the_exact_weight(open_page, eager):
    dense = eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions[1][0, 2]
    tab = open_page(TEXT, "--layer", 1, "--head", 2, "--query", "cat")
    tab.hover("#text .t >> text=mat")
    line = facts(tab)
    assert "“cat” #2 → “mat” #6" in line
    assert float(re.search(r"weight ([\d.]+)", line)[1]) == pytest.approx(float(dense[2, 6]), abs=1e-3)
    assert f"rank {int((dense[2] > dense[2, 6]).sum()) + 1} of 13" in line


def test_table_follows_the_hovered_word(open_page, eager):
    dense = eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions[0][0, 1]
    tab = open_page(TEXT, "--layer", 0, "--head", 1)
    tab.hover("#text .t >> text=sat")
    assert "“sat” #3 looks at" in tab.inner_text("#table-title")
    first = tab.inner_text("#table tbody tr:first-child").split()
    assert int(first[2][1:]) == int(dense[3].argmax())
    assert float(first[3]) == pytest.approx(float(dense[3].max()), abs=1e-3)


def test_keys_and_address(open_page):
    tab = open_page(TEXT, "--layer", 1, "--head", 2, "--query", "cat")
    for key in ("ArrowRight", "ArrowUp", "n", "w"):
        tab.keyboard.press(key)
    address = tab.evaluate("location.hash")
    assert {"l=0", "h=3", "q=3", "w=1"} <= set(address.lstrip("#").split("&"))
    tab.keyboard.press("Escape")
    assert "q=-" in tab.evaluate("location.hash")
    tab.keyboard.press("?")
    assert tab.is_visible("#help")
    again = open_page(TEXT, hash=address)
    assert again.inner_text("#where") == "layer 0 head 3"
    assert again.is_checked("#words")


def test_map_is_painted(open_page):
    tab = open_page(TEXT, model="gpt2")
    for _ in range(50):
        if tab.inner_text("#map-progress") == "":
            break
        tab.wait_for_timeout(50)
    # A causal map: something below the diagonal, nothing above it.
    pixel = """([x, y]) => {
      const c = document.getElementById("map"), b = c.getBoundingClientRect(), r = c.width / b.width;
      const left = 74, top = 66, right = 16;
      return c.getContext("2d").getImageData(Math.round((left + x * (b.width - left - right)) * r),
        Math.round((top + y * (b.height - top - 1)) * r), 1, 1).data[3];
    }"""
    assert tab.evaluate(pixel, [0.13, 0.87]) == 255
    assert tab.evaluate(pixel, [0.87, 0.13]) == 0


def test_hostile_text_is_only_text(open_page):
    tab = open_page("</script><script>cat</script> <b> & \" '")
    assert tab.evaluate("document.querySelectorAll('#text b').length") == 0
    assert "<" in tab.inner_text("#text")


def test_sections_of_an_encoder_decoder(open_page):
    tab = open_page("The cat sat", "a dog", model="t5")
    assert tab.input_value("#section") == "cross"
    assert tab.inner_text("#text").count("keys") == 1
    for name in ("encoder", "decoder"):
        tab.select_option("#section", name)
        assert f"s={name}" in tab.evaluate("location.hash")


def test_phone_width_does_not_scroll_sideways(open_page):
    tab = open_page(TEXT)
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_the_chosen_word_is_in_sight(open_page):
    tab = open_page(" ".join(["the cat sat"] * 15), "--query", "#40")
    tab.set_viewport_size({"width": 390, "height": 300})
    tab.reload()
    tab.wait_for_selector("html[data-ready]")
    inside = """() => {
      const [box, t] = ["#text", ".chosen"].map((s) => document.querySelector(s).getBoundingClientRect());
      return t.top >= box.top && t.bottom <= box.bottom;
    }"""
    assert tab.evaluate(inside)
