"""What a notebook shows: the explorer in a frame that reaches nothing, or true pictures, and never an exception."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import sightline
from sightline.view import colours, notebook
from sightline.view.png import indexed_png

from .browser import Tabs
from .test_page import meta_of

TOKENS = ["[CLS]", "the", "cat", "sat", "on", "the", "mat", "<b>&\"'", "[SEP]"]


class Elements(HTMLParser):
    """Every element of a piece of HTML with its attributes, unescaped, and its text."""

    def __init__(self, text):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def frame_of(shown):
    (frame,) = Elements(shown).named("iframe")
    return frame


def outside(text):
    """Attributes anywhere, in framed pages too, by which a browser would fetch something."""
    found = []
    for tag, attributes in Elements(text).found:
        for name, value in attributes.items():
            if name == "srcdoc":
                found += outside(value)
            elif re.search(r"(https?|wss?|ftp|file):|^\s*//|url\((?!['\"]?data:)", value or ""):
                found.append((tag, name, value))
            elif name in ("src", "href", "action", "data", "srcset", "poster"):
                found += [] if value.startswith("data:") else [(tag, name, value)]
    return found


def trace_of(n=9, m=None, batch=1, layers=1, tokens=None, dtype=torch.float32):
    with sightline.trace(None) as trace:
        for _ in range(layers):
            query = torch.randn(batch, 2, n, 8, dtype=dtype)
            key, value = torch.randn(2, batch, 2, m or n, 8, dtype=dtype)
            functional.scaled_dot_product_attention(2 * query, key, value)
    trace.tokens = tokens
    return trace


def saved(trace, tmp_path):
    trace.save(tmp_path / "x.safetensors")
    return sightline.load_trace(tmp_path / "x.safetensors")


# --- the explorer in a frame ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trace", "saved", "matrix", "head", "cross", "bfloat16", "float64", "grad"])
def test_ipython_gets_a_frame_and_the_plain_text(kind, tmp_path):
    formatters = pytest.importorskip("IPython.core.formatters", reason="IPython is not installed")
    matrix = sightline.AttentionMatrix(*torch.randn(2, 2, 4, 7, 8), mask=sightline.causal())
    thing = {
        "trace": lambda: trace_of(tokens=TOKENS),
        "saved": lambda: saved(trace_of(tokens=TOKENS), tmp_path),
        "matrix": lambda: matrix,
        "head": lambda: matrix[1, 2],
        "cross": lambda: trace_of(5, 9),
        "bfloat16": lambda: trace_of(dtype=torch.bfloat16),
        "float64": lambda: matrix.to(torch.float64),
        "grad": lambda: sightline.AttentionMatrix(torch.randn(1, 2, 7, 8).requires_grad_(), torch.randn(1, 2, 7, 8), detach=False),
    }[kind]()  # fmt: skip
    shown, _ = formatters.DisplayFormatter().format(thing)
    assert shown["text/plain"] == repr(thing)
    frame = frame_of(shown["text/html"])
    assert frame["sandbox"] == "allow-scripts allow-downloads" and frame["title"]
    assert "connect-src" not in frame["srcdoc"] and "default-src 'none'" in frame["srcdoc"]
    assert outside(shown["text/html"]) == []
    about = meta_of(frame["srcdoc"])["about"]
    shape = thing[0].shape if hasattr(thing, "report") else thing.four_axes().shape
    layer = about["sections"][0]["layers"][0]
    assert (layer["heads"], layer["n"], layer["m"]) == tuple(shape[1:])
    assert ("batch entry 0 of 2" in about["notices"]) == (kind in ("matrix", "float64"))


def test_unverified_calls_and_notices_are_named():
    layer = torch.nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True).train()
    x = torch.randn(1, 4, 16)
    with sightline.trace(layer) as trace:
        layer(x, x, x)
    assert "dropout is active" in "".join(Elements(trace._repr_html_()).texts)
    assert "<iframe" not in trace._repr_html_()
    shown = trace[0].matrix._repr_html_()
    assert "unverified: dropout is active" in "".join(Elements(shown).texts)
    assert meta_of(frame_of(shown)["srcdoc"])["about"]["sections"][0]["layers"][0]["verified"] is False


def test_values_are_left_out_where_the_page_would_be_too_large(monkeypatch):
    trace = trace_of(200, layers=3)
    whole = frame_of(trace._repr_html_())["srcdoc"]
    least = sum(notebook.least_bytes(call.matrix) for call in trace)
    monkeypatch.setattr(notebook, "PAGE", int(least) + notebook._EMPTY_PAGE + 10_000)  # of 26 kB
    smaller = meta_of(frame_of(trace._repr_html_())["srcdoc"])
    assert "value" in meta_of(whole)["layers"][0]["tensors"]
    assert not any("value" in layer["tensors"] for layer in smaller["layers"])
    assert any("values are left out" in notice for notice in smaller["about"]["notices"])


# --- pictures -------------------------------------------------------------------------------------------


def pixels(source):
    """[h,w] places in the palette, the palette [P,4]: read back from the bytes, by the format's definition."""
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + size
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour, chunks[b"IEND"]) == (8, 3, b"")
    rows = torch.frombuffer(bytearray(zlib.decompress(chunks[b"IDAT"])), dtype=torch.uint8)
    rows = rows.view(height, width + 1)
    assert int(rows[:, 0].max()) == 0
    opacity = torch.frombuffer(bytearray(chunks[b"tRNS"]), dtype=torch.uint8)
    return (
        rows[:, 1:].long(),
        torch.frombuffer(bytearray(chunks[b"PLTE"]), dtype=torch.uint8).view(-1, 3),
        opacity,
    )


def check_pictures(shown, expected):
    """The pictures of heads are ``expected`` [H,h,w]: hidden cells clear, the largest darkest."""
    images = Elements(shown).named("img")
    assert len(images) == len(expected)
    for image, cells in zip(images, expected, strict=True):
        places, palette, opacity = pixels(image["src"])
        hidden = cells.isnan()
        assert torch.equal(opacity[places] == 0, hidden)
        most = cells[~hidden].max()
        assert f"largest {most:.3g}" in image["alt"]
        share = (cells[~hidden] / most).sqrt()
        assert float((places[~hidden] / 254 - share).abs().max()) < 0.5 / 254 + 1e-4
        assert tuple(palette[places[cells == most][0]].tolist()) == colours.colour(1, colours.LIGHT)
    assert outside(shown) == []


@pytest.mark.parametrize("shape", [(1100, 1300), (3, 1500)], ids=str)
def test_pictures_of_a_long_matrix_are_its_pooled_weights(shape):
    n, m = shape
    query, key = 3 * torch.randn(2, 11, n, 8), torch.randn(2, 11, m, 8)
    matrix = sightline.AttentionMatrix(query, key, mask=sightline.window(400, 0))
    shown = matrix._repr_html_()
    check_pictures(shown, matrix.pool(min(n, 64), 64)[0, :8])
    assert "batch entry 0 of 2" in shown and "the first 8 of 11 heads" in shown and "sampled" not in shown
    image = Elements(shown).named("img")[0]
    assert (image["width"], image["height"]) == ("160", str(max(8, round(160 * n / m))))


def test_a_matrix_that_takes_long_is_sampled(monkeypatch):
    matrix = sightline.AttentionMatrix(3 * torch.randn(1, 2, 2000, 8), torch.randn(1, 2, 2000, 8))
    monkeypatch.setattr(notebook, "AT_ONCE", 10**6)
    shown = matrix._repr_html_()
    assert "of 2,000 rows, sampled" in shown
    count = int(re.search(r"from (\d+) of 2,000 rows", shown)[1])
    step = 2000 // count
    read = matrix.dense()[0][:, step // 2 :: step]
    assert read.shape[1] == count <= 4 * 10**6 / (2 * 2 * 2000)
    rows = ((torch.arange(2000)[step // 2 :: step] + 1) * min(64, count) - 1) // 2000
    cols = ((torch.arange(2000) + 1) * 64 - 1) // 2000
    sums = torch.zeros(2, min(64, count), 64, dtype=torch.float64)
    flat = (rows[:, None] * 64 + cols).flatten()
    sums.view(2, -1).index_add_(1, flat, read.double().flatten(1))
    check_pictures(shown, (sums / flat.bincount().view(min(64, count), 64)).float())


def test_pictures_of_a_long_trace(monkeypatch):
    trace = trace_of(1100, batch=2, layers=5)
    shown = trace._repr_html_()
    check_pictures(shown, torch.cat([trace[at].matrix.pool(64, 64)[0] for at in (0, 2, 4)]))
    assert "[2, 2, 1100, 1100], torch.float32" in shown and "trace.report(" in shown
    monkeypatch.setattr(notebook, "PAGE_LIMIT", 1000)
    assert "trace.report(" not in trace._repr_html_() and "sightline serve" in trace._repr_html_()


def test_a_bias_that_no_page_can_carry_is_drawn():
    query, key = torch.randn(2, 1, 3, 1000, 4)
    matrix = sightline.AttentionMatrix(query, key, bias=torch.randn(3, 1000, 1000))
    check_pictures(matrix._repr_html_(), matrix.pool(64, 64)[0])


def test_a_matrix_that_sees_nothing_is_all_clear():
    mask = torch.zeros(1100, 1100, dtype=torch.bool)
    matrix = sightline.AttentionMatrix(*torch.randn(2, 1, 1, 1100, 4), mask=mask)
    (image,) = Elements(matrix._repr_html_()).named("img")
    places, _, opacity = pixels(image["src"])
    assert int(opacity[places].max()) == 0


def test_png_refuses_what_the_palette_has_not():
    with pytest.raises(ValueError, match="places: from 0 to 2 do not fit a palette of 2 colours"):
        indexed_png(torch.tensor([[0, 2]]), [(0, 0, 0, 0), (1, 1, 1, 1)])
    with pytest.raises(ValueError, match=r"not empty, got shape \[0, 3\]"):
        indexed_png(torch.zeros(0, 3, dtype=torch.int64), [(0, 0, 0, 0)])


def test_colours_are_those_of_the_page():
    text = (Path(colours.__file__).parent / "web/common/colour.js").read_text(encoding="utf-8")
    for name in ("LIGHT", "DARK"):
        line = re.search(rf"^const {name} = \[(.*)\];$", text, re.MULTILINE)[1]
        assert tuple(re.findall(r'"(#\w{6})"', line)) == getattr(colours, name)


# --- what cannot be shown -------------------------------------------------------------------------------


def line_of(thing):
    shown = Elements(thing._repr_html_())
    assert [tag for tag, _ in shown.found] == ["p"]
    return "".join(shown.texts)


def test_what_cannot_be_shown_is_one_line(monkeypatch):
    with pytest.warns(UserWarning, match="no attention"), sightline.trace(None) as trace:
        pass
    assert line_of(trace).startswith("Trace(no model, 0 calls): the trace holds no attention call")
    query, key = torch.randn(2, 1, 2, 8, 4)
    assert line_of(sightline.AttentionMatrix(query[:, :, :0], key)).endswith("is empty")
    matrix = sightline.AttentionMatrix(query, key)
    query.add_(1)
    assert "RuntimeError: query: changed in place" in line_of(matrix)
    monkeypatch.setattr(notebook, "shown", lambda *_: 1 / 0)
    assert (
        line_of(trace_of()) == "Trace(no model, 1 calls) cannot be shown: ZeroDivisionError: division by zero"
    )


def test_looking_inside_the_block_leaves_the_trace_as_it_is():
    with sightline.trace(None) as trace:
        functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 9, 8))
        assert "<iframe" in trace._repr_html_()
        assert "<img" in sightline.AttentionMatrix(*torch.randn(2, 1, 2, 1100, 8))._repr_html_()
    assert len(trace) == 1


# --- in a browser ---------------------------------------------------------------------------------------


@pytest.fixture
def tabs(browser):
    made = Tabs(browser, allowed=("file:", "blob:", "data:", "about:"), tour=True)
    yield made
    made.close()
    assert made.problems == []


def opened(tabs, path, *things, head=""):
    """A page with what a notebook would hold, one cell after the other."""
    cells = "".join(f"<div>{thing._repr_html_()}</div>" for thing in things)
    path.write_text(f'<!doctype html><html data-ready="true"><meta charset="utf-8">{head}<body>{cells}</body></html>', encoding="utf-8")  # fmt: skip
    return tabs.open(path.as_uri())


def framed(tab, at):
    frame = tab.locator("iframe").nth(at).element_handle().content_frame()
    frame.wait_for_selector("html[data-ready]")
    return frame


@pytest.mark.browser
def test_the_frame_tells_exact_weights(tabs, tmp_path):
    trace = trace_of(tokens=TOKENS, layers=2)
    matrix = sightline.AttentionMatrix(*torch.randn(2, 1, 3, 11, 8), mask=sightline.causal())
    long = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 1100, 8))
    tab = opened(tabs, tmp_path / "x.html", trace, matrix, long)
    for at, (frame, layers) in enumerate(
        ((framed(tab, 0), [call.matrix for call in trace]), (framed(tab, 1), [matrix]))
    ):
        frame.locator("#text [data-at='1']").first.hover()
        frame.wait_for_function("() => /weight [\\d.]/.test(document.getElementById('facts').textContent)")
        told = frame.inner_text("#facts")
        query, key = map(int, re.search(r"#(\d+) → .*#(\d+)", told).groups())
        layer, head = int(frame.input_value("#layer")), int(frame.input_value("#head"))
        expected = float(layers[layer].dense()[0, head, query, key])
        assert key == 1 and float(re.search(r"weight ([\d.e-]+)", told)[1]) == pytest.approx(
            expected, abs=1e-3
        )
        assert frame.locator(".tour-offer").count() == 0, at
    assert "<b>&\"'" in framed(tab, 0).inner_text("#text")
    sizes = tab.evaluate("Array.from(document.images, (image) => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[64, 64]] * 2


@pytest.mark.browser
def test_the_frame_computes_in_a_worker_keeps_out_and_saves(tabs, tmp_path):
    tab = opened(tabs, tmp_path / "x.html", trace_of(tokens=TOKENS))
    frame = framed(tab, 0)
    assert len(tab.workers) == 1 and tab.workers[0].url.startswith("blob:")
    assert tab.evaluate("document.querySelector('iframe').contentDocument") is None
    frame.wait_for_selector("#map[data-exact=true]")
    frame.locator("#menu-button").click()
    frame.get_by_text("export a picture").click()
    with tab.expect_download() as download:
        frame.get_by_role("button", name="Map as CSV").click()
    assert "# Weights show where a head looks" in download.value.path().read_text(encoding="utf-8-sig")


@pytest.mark.browser
def test_the_frame_works_where_the_notebook_allows_no_worker(tabs, tmp_path):
    # A frame without an address is under the policy of the page around it, too.
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    frame = framed(opened(tabs, tmp_path / "x.html", trace_of(tokens=TOKENS), head=head), 0)
    frame.locator("#text [data-at='1']").first.hover()
    frame.wait_for_function("() => /weight [\\d.]/.test(document.getElementById('facts').textContent)")
    assert len(tabs.problems) == 1 and "worker" in tabs.problems.pop()
