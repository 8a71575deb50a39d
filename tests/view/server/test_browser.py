"""The served page in a real browser: known weights of a long trace, texts typed, traces side by side."""

from __future__ import annotations

import re

import pytest
import torch

import sightline
from sightline.commands.opening import open_model
from sightline.measure import head_labels, induction
from sightline.view.server.reader import Reader
from sightline.view.server.uploads import Uploads

from ..browser import FAINT, Tabs, open_menu
from ..test_browser import bring, hover_cell, settled, wait_facts, weight_in
from .test_values import dense

pytestmark = pytest.mark.browser


@pytest.fixture
def open_tab(browser, running):
    tabs = Tabs(browser, allowed=(running, "blob:", "data:"))

    def run(hash=""):
        return tabs.open(running + "/" + hash)

    run.tabs = tabs
    yield run
    tabs.close()
    assert tabs.problems == []


def test_a_known_weight_under_the_pointer(open_tab, trace):
    tab = open_tab("#l=0&h=1&v=280_690_0.05")
    bring(tab, "#map-canvas")
    settled(tab)
    hover_cell(tab, 700, 290)
    line = wait_facts(tab, "“t700” #700 → “t290” #290", "rank")
    expected = dense(trace, 0, 1)[700]
    assert weight_in(line) == pytest.approx(float(expected[290]), abs=6e-5)
    assert f"rank {int((expected > expected[290]).sum()) + 1} of 701" in line


def test_search_text_and_steps(open_tab, trace):
    tab = open_tab("#l=0&h=1")
    open_menu(tab)
    tab.fill("#wanted", "t77")
    tab.press("#wanted", "Enter")
    tab.wait_for_function("() => location.hash.includes('q=77')")
    best = int(dense(trace, 0, 1)[77].nan_to_num(nan=-1).argmax())
    tab.wait_for_function(
        "(at) => document.querySelector('#text tbody tr')?.textContent.includes('#' + at)", arg=best
    )
    tab.wait_for_selector(f"#steps [data-key='{best}']")
    # The pinned token is laid out and in sight, although the text is long.
    tab.fill("#wanted", "#1250")
    tab.press("#wanted", "Enter")
    tab.wait_for_selector("#text [data-at='1250']")
    address = tab.evaluate("location.hash")
    again = open_tab(address)
    assert again.evaluate("location.hash") == address
    laid = again.evaluate("document.querySelectorAll('#text [data-at]').length")
    assert 0 < laid < 1300


@pytest.mark.slow
def test_the_tour_of_a_long_served_text(open_tab, trace):
    tab = open_tab("#l=0&h=1&q=700")
    open_menu(tab)
    tab.click("#tour-open")
    tab.click(".tour-dots li:nth-child(4) button")
    best = int(dense(trace, 0, 1)[700].nan_to_num(nan=-1).argmax())
    expected = float(dense(trace, 0, 1)[700, best])
    row = tab.locator(".tour-bars .best")
    assert row.inner_text().split()[0] == f"t{best}"
    assert float(row.inner_text().split()[-1]) == pytest.approx(expected, abs=0.0051)
    assert "others" in tab.inner_text(".tour-bars")
    tab.click(".tour-dots li:nth-child(6) button")
    tab.wait_for_selector(".tour-heads canvas")
    assert "24 tokens around" in tab.inner_text(".tour-hunt")
    tab.click(".tour-dots li:nth-child(7) button")
    tab.click(".tour-own")
    assert "sightline serve" in tab.inner_text("#own"), "a server without a model cannot read a text"


def test_a_map_of_many_tiles_is_sampled_then_exact(open_tab, trace, monkeypatch):
    from sightline.view.server import service

    monkeypatch.setattr(service, "AT_ONCE", 0)
    tab = open_tab("#l=1&h=0&c=log")
    settled(tab)
    tile = "document.getElementById('map').main.host.tiles.get({level: 3, row: 0, column: 0})"
    assert tab.evaluate(f"{tile}.sampled") is False


def test_two_traces_side_by_side(open_tab, trace, service, tmp_path):
    from sightline.view.server.catalogue import open_files

    from .conftest import make_trace

    make_trace(200).save(tmp_path / "other.safetensors")
    (other,) = open_files([tmp_path / "other.safetensors"])
    service.add(other)
    tab = open_tab("#l=1&h=0")
    tab.select_option("#atlas-versus", other.id)
    tab.wait_for_selector("#map-versus", state="visible")
    assert "other.safetensors" in tab.inner_text("#versus-name")
    tab.select_option("#compare", "difference")
    tab.wait_for_function("() => document.getElementById('map').textContent.includes('of one size')")
    tab.select_option("#compare", "side")
    tab.select_option("#trace", other.id)
    tab.wait_for_function("(id) => location.hash.includes('t=' + id)", arg=other.id)
    tab.wait_for_function("() => document.querySelector('.menu-about').textContent.includes('200 × 200')")


def test_relevance_and_labels_of_a_saved_trace(open_tab, service, tmp_path):
    from sightline.view.server.catalogue import open_files

    torch.manual_seed(4)
    query, key, value = (torch.randn(1, 2, 40, 8, requires_grad=True) for _ in range(3))
    with sightline.trace(None, gradients=True) as trace:
        first = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        second = torch.nn.functional.scaled_dot_product_attention(query, key, first, is_causal=True)
    (1e-4 * second[0, 1, 30, 2]).backward()
    trace.tokens = [f"t{at % 20}" for at in range(40)]
    trace.save(tmp_path / "graded.safetensors")
    (opened,) = open_files([tmp_path / "graded.safetensors"])
    service.add(opened)
    tab = open_tab(f"#t={opened.id}&q=30&l=0&h=0")
    tab.select_option("#show", "relevance")
    tab.wait_for_function("() => document.querySelector('#text thead').textContent.includes('relevance')")
    places = tab.locator("#text tbody tr td:nth-child(3)").all_inner_texts()
    assert places[:3] == [f"#{at}" for at in trace.relevance(30)[0].topk(3).indices.tolist()]
    tab.wait_for_function("() => document.querySelectorAll('#atlas .atlas-label:not(:empty)').length === 4")
    tokens = torch.arange(40) % 20
    labels = [each.label for call in trace for each in head_labels(call, tokens)]
    found = tab.locator("#atlas .atlas-label").all_text_contents()
    assert sorted(found) == sorted(label.removesuffix(" token") for label in labels)
    told = re.search(r"induction ([\d.]+)", tab.inner_text("#atlas"))
    assert float(told[1]) == pytest.approx(float(induction(trace[0], tokens)[0, 0]), abs=0.006)


def test_from_nothing_to_a_typed_text(open_tab, service, model_folder, saved):
    service.traces.clear()
    service.reader = Reader(str(model_folder("bert")), open_model, service.add)
    service.uploads = Uploads()
    tab = open_tab()
    assert "Nothing is open yet" in tab.inner_text("#empty")
    assert tab.evaluate(FAINT) == []
    tab.get_by_role("button", name="open a text or a trace").click()
    tab.fill("#open-text", "the cat sat on the mat")
    tab.click("#open-go")
    tab.wait_for_selector("#views:not([hidden])")
    tab.wait_for_function("() => document.querySelector('#text')?.textContent.includes('mat')")
    open_menu(tab)
    tab.get_by_role("button", name="open a text or a trace").click()
    tab.set_input_files("#open-file", saved)
    tab.wait_for_function("() => document.getElementById('menu').textContent.includes('1,300 × 1,300')")
    assert tab.locator("#trace option").all_inner_texts() == ["the cat sat on the mat", "small.safetensors"]
    # A damaged file is told, and nothing is lost.
    open_menu(tab)
    tab.get_by_role("button", name="open a text or a trace").click()
    tab.set_input_files(
        "#open-file",
        {"name": "bad.safetensors", "mimeType": "application/octet-stream", "buffer": b"nonsense"},
    )
    tab.wait_for_function("() => /not a valid trace/.test(document.getElementById('open').textContent)")
    assert "1,300 × 1,300" in tab.text_content("#menu")
    # The browser itself reports the refused upload.
    assert [each for each in open_tab.tabs.problems if "400" not in each] == []
    open_tab.tabs.problems.clear()


def test_phone_width(open_tab):
    tab = open_tab("#l=1")
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
