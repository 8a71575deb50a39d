"""Live in a notebook: the explorer in a frame, whose questions the kernel answers."""

from __future__ import annotations

import json
import re
import sys
import threading
from html.parser import HTMLParser

import pytest
import torch

import sightline
from sightline.view.modules import source

from .browser import Tabs

pytest.importorskip("starlette", reason="live views need the [app] extra")


class Widget:
    """Takes what is sent to a notebook, from any thread."""

    def __init__(self):
        self.sent: list[tuple[dict, list[bytes]]] = []
        self.came = threading.Event()

    def send(self, content, buffers=()):
        self.sent.append((content, list(buffers)))
        self.came.set()

    def wait(self):
        assert self.came.wait(60)
        self.came.clear()
        return self.sent.pop()


def matrix_of(n=9, heads=2):
    return sightline.AttentionMatrix(*torch.randn(2, 1, heads, n, 8), mask=sightline.causal())


def asked(view, path, method="GET", body=None, number=1):
    """The answer to a question, and its bytes."""
    taken = Widget()
    view._heard(
        taken, {"kind": "ask", "view": "x", "id": number, "method": method, "path": path, "body": body}
    )
    told, (content,) = taken.wait()
    assert (told["kind"], told["view"], told["id"]) == ("answer", "x", number)
    assert not view._asked
    return told, content


def test_rows_are_those_of_the_matrix():
    matrix = matrix_of(3000)
    view = sightline.widget(matrix)
    (trace,) = json.loads(asked(view, "/api/traces")[1])["traces"]
    told, content = asked(view, f"/api/traces/{trace['id']}/calls/0/row?head=1&query=2999&to=3000")
    headers = dict(told["headers"])
    assert told["status"] == 200, content
    assert headers["x-sightline-shape"].split(",")[-1] == "3000"
    row = torch.frombuffer(bytearray(content), dtype=torch.float32)
    torch.testing.assert_close(row, matrix[0, 1, 2999], atol=1e-6, rtol=1e-5)


def test_a_trace_and_a_saved_trace(tmp_path):
    with sightline.trace(None) as trace:
        torch.nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 5, 8))
    trace.save(tmp_path / "x.safetensors")
    assert repr(sightline.widget(trace)) == "LiveView(Trace(no model, 1 calls))"
    for thing in (trace, tmp_path / "x.safetensors", str(tmp_path / "x.safetensors")):
        (told,) = json.loads(asked(sightline.widget(thing), "/api/traces")[1])["traces"]
        assert told["model"] == sightline.widget(trace)._trace.summary()["model"]


@pytest.mark.parametrize(
    "path, method, status, message",
    [
        ("/api/traces/none", "GET", 404, "no such trace"),
        ("/", "GET", 404, "Not Found"),
        ("/api/upload?name=x", "POST", 404, "Uploads are switched off"),
        ("/api/read", "POST", 404, "No model is here"),
    ],
)
def test_what_is_not_there_is_a_sentence(path, method, status, message):
    told, content = asked(sightline.widget(matrix_of()), path, method, "{}" if method == "POST" else None)
    assert told["status"] == status
    assert message in json.loads(content)["error"]


def test_a_failure_is_an_answer(monkeypatch):
    view = sightline.widget(matrix_of())
    monkeypatch.setattr(view._trace, "about", lambda: 1 / 0)
    told, content = asked(view, f"/api/traces/{view._trace.id}")
    assert told["status"] == 500 and json.loads(content)["error"]


def test_a_cell_gets_the_page_and_says_what_nobody_waits_for(monkeypatch):
    from sightline.view.server import inside

    view, taken, waiting = sightline.widget(matrix_of(), height=400), Widget(), []
    view._heard(taken, {"kind": "open", "view": "a"})
    told, _ = taken.wait()
    assert (told["kind"], told["view"], told["height"]) == ("page", "a", 400)
    assert "connect-src" not in told["page"] and "default-src 'none'" in told["page"]
    assert 'id="sightline-data"' not in told["page"] and "window.fetch = fetchFromKernel" in told["page"]

    monkeypatch.setattr(inside, "ask", lambda app, request, gone, take: waiting.append(gone))
    for at, cell in enumerate("aab"):
        view._heard(
            taken, {"kind": "ask", "view": cell, "id": at, "method": "GET", "path": "/", "body": None}
        )
    view._heard(taken, {"kind": "stop", "view": "a", "id": 0})
    assert [gone.is_set() for gone in waiting] == [True, False, False]
    view._heard(taken, {"kind": "stop", "view": "a", "id": 2})  # of another cell
    view._heard(taken, {"kind": "close", "view": "a"})
    assert [gone.is_set() for gone in waiting] == [True, True, False]


def test_who_is_gone_is_noticed():
    """As the server notices that a browser has gone."""
    from sightline.view.server.inside import Request, ask

    gone, looked, ended = threading.Event(), threading.Event(), Widget()

    async def app(scope, receive, send):
        from starlette.requests import Request as Asked

        request = Asked(scope, receive)
        assert await request.body() == b"x" and not await request.is_disconnected()
        looked.set()
        while not await request.is_disconnected():
            pass
        await send({"type": "http.response.start", "status": 499, "headers": []})

    ask(app, Request("POST", "/a?b=c", b"x"), gone, lambda answer: ended.send({"status": answer.status}))
    assert looked.wait(60)
    gone.set()
    assert ended.wait()[0] == {"status": 499}


@pytest.mark.parametrize(
    "thing, height, error, message",
    [
        (3, 720, TypeError, "widget: got int, expected a trace, an AttentionMatrix or a path"),
        ("none.safetensors", 720, ValueError, r"widget: cannot read none\.safetensors"),
        (None, 20, ValueError, "widget: height is 20, expected 100 to 10,000 pixels"),
    ],
)
def test_bad_input(thing, height, error, message):
    with pytest.raises(error, match=message):
        sightline.widget(matrix_of() if thing is None else thing, height=height)


def test_an_empty_matrix_is_refused():
    query, key = torch.randn(2, 1, 2, 8, 4)
    with pytest.raises(ValueError, match="is empty"):
        sightline.widget(sightline.AttentionMatrix(query[:, :, :0], key))


def test_without_anywidget_a_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    shown = sightline.widget(matrix_of())._repr_mimebundle_()
    parser, texts = HTMLParser(), []
    parser.handle_data = texts.append
    parser.feed(shown["text/html"])
    assert 'pip install "sightline[jupyter]"' in "".join(texts)
    assert shown["text/plain"].startswith("LiveView(AttentionMatrix(shape=[1, 2, 9, 9]")


def test_anywidget_takes_it():
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    view = sightline.widget(matrix_of())
    shown = view._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in data
    state = view.anywidget.get_state()
    assert "export default { render }" in state["_esm"]
    assert len(str(state)) < 10_000  # what a notebook keeps: not the page, and no numbers


def test_the_cell_names_what_python_hears():
    said = set(re.findall(r'kind: "(\w+)"', source("widget/cell.js") + source("widget/kernel.js")))
    assert said == {"open", "close", "ask", "stop"}


# What anywidget does: gives the module a model that sends to Python, and an element.
_HOST = """async (cell) => {
  const listeners = new Set();
  const model = {
    send: (content) => void toKernel(content).then((answers) => {
      for (const [said, bytes] of answers) {
        const buffers = bytes.map((text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
        for (const listener of listeners) listener(said, buffers);
      }
    }),
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
  };
  const module = await import(URL.createObjectURL(new Blob([cell], { type: "text/javascript" })));
  window.end = module.default.render({ model, el: document.getElementById("cell") });
  return listeners.size;
}"""


@pytest.fixture
def tabs(browser):
    made = Tabs(browser, allowed=("file:", "blob:", "data:", "about:"))
    yield made
    made.close()
    assert made.problems == []


@pytest.mark.browser
def test_a_long_matrix_is_looked_at_through_the_kernel(tabs, tmp_path):
    import base64

    matrix, answered = matrix_of(1400), {}
    view = sightline.widget(matrix)

    def to_kernel(content):
        taken = Widget()
        view._heard(taken, content)
        if content["kind"] not in ("open", "ask"):
            return []
        said, buffers = taken.wait()
        answered[content.get("path", "")] = said.get("status", 0)
        return [[said, [base64.b64encode(each).decode() for each in buffers]]]

    (tmp_path / "x.html").write_text(
        '<!doctype html><html data-ready="true"><meta charset="utf-8"><body><div id="cell"></div></body></html>',
        encoding="utf-8",
    )
    tabs.context.expose_function("toKernel", to_kernel)
    tab = tabs.open((tmp_path / "x.html").as_uri())
    assert tab.evaluate(_HOST, source("widget/cell.js")) == 1
    frame = tab.wait_for_selector("iframe").content_frame()
    frame.wait_for_selector("html[data-ready]")
    assert frame.locator("#notices .notice").count() == 0
    assert tab.evaluate("document.querySelector('iframe').contentDocument") is None
    frame.wait_for_selector("#map[data-exact=true]")
    assert any("/tile?" in path for path in answered) and max(answered.values()) < 400
    row = frame.evaluate(
        "async (path) => [...new Float32Array(await (await fetch(path)).arrayBuffer())]",
        f"/api/traces/{view._trace.id}/calls/0/row?head=1&query=1300",
    )
    torch.testing.assert_close(torch.tensor(row).nan_to_num(), matrix[0, 1, 1300], atol=1e-6, rtol=1e-5)
    stopped = frame.evaluate("""async () => {
      const stop = new AbortController();
      const asked = fetch("/api/traces", { signal: stop.signal });
      stop.abort();
      return asked.catch((error) => error.name);
    }""")
    assert stopped == "AbortError"
    tab.evaluate("window.end()")
    assert not view._asked
