"""What if, in a page that runs the model: both answers are those that ``sightline serve`` gives."""

from __future__ import annotations

import pytest

import sightline
from sightline.commands.opening import open_model
from sightline.interventions.written import read_changes
from sightline.view.server.reader import Reader
from sightline.view.server.whatif import changed, rooms_of

from ..browser import FAINT

pytestmark = pytest.mark.browser
TEXT = "The cat sat on the mat."
READY = "#whatif .whatif-outcome:not([hidden])"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from sightline.cli import main

    path = tmp_path_factory.mktemp("live") / "page.html"
    assert main(["page", "translation", TEXT, "-o", str(path)]) == 0
    return path.as_uri()


@pytest.fixture
def open_tab(tabs, page):
    return lambda hash="": tabs.open(page + hash)


def served(changes):
    """(the reading's trace, what came out before, what comes out now), by the server's own way."""
    opened = open_model("translation")
    base = Reader("translation", lambda name: opened, lambda trace: None).read_now(TEXT)
    return changed(opened, base, read_changes(changes, rooms_of(base.reading)), lambda: None)


def table(tab):
    """The shown word, and its shares before and after, of each row."""
    rows = tab.locator("#whatif tbody tr").all()
    return [[cell.inner_text().strip() for cell in row.locator("th, td").all()] for row in rows]


def shares_of(outcome, row):
    return {word.strip(): share for word, share in outcome.candidates[row]}


def same(shown, share):
    return shown == f"{100 * share:.1f} %" or (share < 1e-3 and shown == "< 0.1 %")


def test_a_token_away_as_the_server_has_it(open_tab):
    tab = open_tab("#s=cross&l=0&h=1&q=2&k=1&w=0")
    tab.click("#whatif-token")
    tab.wait_for_selector(READY)
    _, before, after = served([{"kind": "block", "section": ["encoder", "cross"], "keys": [1]}])
    assert tab.locator("#whatif figure p").all_inner_texts() == [before.text, after.text]
    assert before.text != after.text
    row = int(tab.eval_on_selector("#whatif-after", "(select) => Number(select.value)"))
    sides = shares_of(before, row), shares_of(after, row)
    for word, *shown in table(tab)[:4]:
        for side, text in zip(sides, shown, strict=True):
            assert word not in side or same(text, side[word]), (word, text)
    # The map shows both; without changes it shows one again.
    assert "· what if" in tab.inner_text("#map")
    assert tab.evaluate(FAINT) == []
    tab.click("#whatif-undo")
    tab.wait_for_function("() => document.querySelector('#whatif .whatif-outcome').hidden")
    assert "· what if" not in tab.inner_text("#map")


@pytest.mark.slow
def test_clicks_take_away_and_a_weight_is_dragged_by_keys(open_tab):
    tab = open_tab("#s=cross&l=0&h=1&q=2&k=1&w=0")
    weight = tab.locator("#whatif-weight:enabled")
    weight.focus()
    before = float(weight.input_value())
    for _ in range(3):
        tab.keyboard.press("ArrowRight" if before < 0.5 else "ArrowLeft")  # and not to another head
    tab.wait_for_selector(READY)
    assert "head 1" in tab.inner_text("#whatif-head")
    after = float(weight.input_value())
    assert abs(after - before) == pytest.approx(0.03, abs=0.011)
    assert f"“Katze” → “cat” gets {100 * after:.1f} %" in tab.inner_text("#whatif .whatif-changes")
    assert "“Katze” #2 → “cat” #1" in tab.inner_text("#facts")
    tab.keyboard.press("x")
    assert tab.get_attribute("#whatif-cut", "aria-pressed") == "true"
    tab.locator("#atlas .atlas-head").nth(2).click()
    tab.locator("#atlas .atlas-layer").nth(1).click()
    items = tab.locator("#whatif .whatif-changes li")
    tab.wait_for_function("() => document.querySelectorAll('#whatif .whatif-changes li').length === 3")
    assert [text.split("\n")[0] for text in items.all_inner_texts()][1:] == [
        "cross 0 · head 2 away",
        "cross 1: the whole layer away",
    ]
    tab.keyboard.press("x")
    tab.locator("#atlas .atlas-head").nth(3).click()
    assert items.count() == 3  # clicks choose again
    tab.click("#whatif-clear")
    tab.wait_for_function("() => document.querySelectorAll('#whatif .whatif-changes li').length === 0")


@pytest.mark.slow
def test_which_head_mattered(open_tab):
    tab = open_tab("#s=cross&l=0&h=1")
    tab.click("#whatif-heads")
    tab.wait_for_function(
        "() => document.querySelector('.whatif-progress').textContent.startsWith('The atlas')"
    )
    pipeline = sightline.pipeline("translation")
    expected = sightline.effects(pipeline, TEXT, progress=False)
    first = next(at for at, name in enumerate(expected.layers) if "cross" in name)
    shown = tab.locator("#atlas .atlas-row").first.locator(".atlas-number").all_inner_texts()
    values = [float(text.replace("−", "-")) for text in shown]
    assert values == pytest.approx(expected.values[first].tolist(), abs=6e-3)
