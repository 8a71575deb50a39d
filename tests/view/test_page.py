"""The self-contained page: closed to the network, safe with any text, and its weights equal Python's."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.view import carried, modules, report
from sightline.view.tensors import TensorStore

from .test_numbers import IDS, TEXT, close, ids

HOSTILE = "</script><script>cat</script> & \" ' <!-- the </style> {{script}} \u2028 cat"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@pytest.fixture
def page(look, tmp_path):
    """The text of a page about ARGUMENTS."""

    def make(*arguments, model="bert"):
        path = tmp_path / "page.html"
        ran = look(*arguments, "--html", path, model=model)
        assert ran.code == 0, ran.err
        return path.read_text(encoding="utf-8")

    return make


def meta_of(page):
    found = re.search(r'<script type="application/json" id="sightline-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def tensor_of(page, ref):
    text = re.search(rf'<script type="text/plain" id="{ref["id"]}">(.*?)</script>', page)[1]
    numbers = np.frombuffer(base64.b64decode(text), dtype="<" + ref["kind"]).reshape(ref["shape"])
    return numbers * tensor_of(page, ref["steps"]) if "steps" in ref else numbers


def test_nothing_comes_from_outside(page):
    text = page(TEXT)
    assert not re.search(r"(?:https?:)?//[\w-]+\.\w", re.sub(r"//# .*", "", text))
    assert not re.search(r"<(?:link|script|img|iframe)[^>]*\s(?:src|href)=\"(?!data:)", text)
    assert not re.search(r"^\s*import\s", text, re.MULTILINE)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith(
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
    )
    assert "Jain &amp; Wallace 2019" in text


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_it_carries_the_queries_and_keys(page, model_folder, model):
    from sightline.huggingface.load import load_model
    from sightline.view.reading import read

    text = page(TEXT, model=model)
    layers = meta_of(text)["sections"][0]["layers"]
    matrices = read(load_model(str(model_folder(model))), TEXT).sections[0].layers
    assert len(layers) == len(matrices)
    for layer, matrix in zip(layers, matrices, strict=True):
        problem = matrix.problem
        for name, vectors in (("query", problem.query[0]), ("key", problem.key[0])):
            found = torch.tensor(tensor_of(text, layer["tensors"][name]))
            step = vectors.abs().amax(1, keepdim=True) / 32767
            assert bool(((found - vectors).abs() <= 0.51 * step).all())
        close(tensor_of(text, layer["tensors"]["lse"]).copy(), matrix.lse[0])
        assert ("ranges" in layer["tensors"]) == (model != "bert")


def test_hostile_text(page):
    text = page(HOSTILE, "</script>")
    # How many tensors there are depends on the numbers; everything else is the same in every page.
    block = r'<script type="text/plain" id="tensor-\d+">[^<]*</script>'
    rest, clean = (re.sub(block, "", each) for each in (text, page("cat")))
    assert rest.count("<script") == clean.count("<script")
    assert rest.count("</script") == clean.count("</script")
    assert "<!-- the" not in text
    assert meta_of(text)["texts"] == [HOSTILE, "</script>"]
    assert "&lt;/script&gt;" in re.search(r"<title>(.*?)</title>", text)[1]


def test_script_json_is_inert():
    value = {"text": "</script><!--&\u2028\u2029"}
    text = report.script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_page_grows_linearly(page):
    sizes = [len(page(" ".join(["cat"] * words))) for words in (0 + 1, 16, 31)]
    assert sizes[2] - sizes[1] < 1.6 * (sizes[1] - sizes[0])


def test_fixed_point_error_decides():
    import sightline

    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 40, 16)
    assert carried.fits_fixed_point(sightline.AttentionMatrix(query, key))
    assert not carried.fits_fixed_point(sightline.AttentionMatrix(600 * query, key))


def test_toeplitz_bias_is_carried_by_its_diagonals():
    diagonals = torch.randn(2, 9)
    place = torch.arange(5)[None, :] - torch.arange(5)[:, None] + 4
    name, found, _ = carried._bias(diagonals[:, place], "layer 0")
    assert name == "diagonals"
    assert torch.equal(found, diagonals)
    assert carried._bias(torch.randn(2, 5, 5), "layer 0")[0] == "bias"


def test_dense_masks_become_ranges():
    visible = torch.tensor([[[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]], dtype=torch.bool)
    ranges = carried.ranges_of(visible)
    assert ranges.tolist() == [[[[0, 1], [2, 4]], [[0, 0], [0, 0]], [[0, 5], [0, 0]]]]
    assert carried.ranges_of(torch.tensor([[[1, 0] * 5]], dtype=torch.bool)) is None


def test_equal_tensors_are_stored_once():
    store = TensorStore()
    first, second = store.add(torch.ones(3), "f4"), store.add(torch.ones(3), "f4")
    assert first == second
    assert store.add(torch.zeros(3), "f4")["id"] != first["id"]


def test_exported_names_are_unique():
    for entry in ("main.js", "worker.js"):
        order: list[str] = []
        modules._visit(entry, order)
        names = [found["name"] for each in order for found in modules._EXPORT.finditer(modules.source(each))]
        assert len(names) == len(set(names))
        assert not re.search(r"^\s*(?:import|export)\b", modules.inline(entry), re.MULTILINE)


HARNESS = """
import { readFileSync } from "node:fs";
import { Data } from "./data.js";
import { HIDDEN } from "./weights.js";
import { unitColumn, unitRow } from "./units.js";
import { poolLine } from "./pool.js";

const page = readFileSync(process.argv[2], "utf8");
const block = (id) => page.match(new RegExp(`id="${id}">([^<]*)</script>`))[1];
const meta = JSON.parse(block("sightline-data"));
const data = new Data(meta, block);
const plain = (row) => Array.from(row, (w) => (w === HIDDEN ? null : w));
const out = {};
for (const section of meta.sections) {
  for (const words of [false, true]) {
    const queries = data.side(section.name, "queries", words);
    const keys = data.side(section.name, "keys", words);
    out[`${section.name}/${words ? "words" : "tokens"}`] = section.layers.map((layer, at) =>
      Array.from({ length: layer.heads }, (_, h) => {
        const head = data.head(section.name, at, h);
        const all = { r0: 0, r1: queries.count, c0: 0, c1: keys.count };
        return {
          rows: Array.from({ length: queries.count }, (_, u) => plain(unitRow(head, queries, keys, u))),
          columns: Array.from({ length: keys.count }, (_, v) => plain(unitColumn(head, queries, keys, v))),
          mean: [0, 1].map((y) => plain(poolLine(head, queries, keys, all, y, 2, 3, "mean"))),
          max: [0, 1].map((y) => plain(poolLine(head, queries, keys, all, y, 2, 3, "max"))),
        };
      }),
    );
  }
}
console.log(JSON.stringify(out));
"""


@pytest.fixture
def weights_in_page(tmp_path):
    """Every weight of a page, computed by the page's own modules in node."""

    def run(text):
        web = tmp_path / "web"
        shutil.copytree(Path(modules.__file__).parent / "web", web)
        (web / "package.json").write_text('{"type": "module"}')
        (web / "harness.js").write_text(HARNESS)
        (web / "page.html").write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["node", "harness.js", "page.html"],
            cwd=web,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def check_weights(found, dense):
    """Rows, columns and pooled pictures of every head against dense weights, a tuple of [1,H,N,M]."""
    for layer, weights in zip(found, dense, strict=True):
        for head, w in zip(layer, weights[0], strict=True):
            rows = torch.tensor([[0.0 if x is None else x for x in row] for row in head["rows"]])
            torch.testing.assert_close(rows, w, atol=1e-3, rtol=0)
            hidden = torch.tensor([[x is None for x in row] for row in head["rows"]])
            assert bool((w[hidden] == 0).all())
            columns = [[row[key] for row in head["rows"]] for key in range(w.shape[1])]
            for column, expected in zip(head["columns"], columns, strict=True):
                assert column == pytest.approx(expected, abs=1e-9)
            for reduce in ("mean", "max"):
                check_picture(head[reduce], w, hidden, reduce)


def check_picture(found, w, hidden, reduce):
    n, m = w.shape
    for y in range(2):
        for x in range(3):
            part = (slice(y * n // 2, (y + 1) * n // 2), slice(x * m // 3, (x + 1) * m // 3))
            visible = w[part][~hidden[part]]
            if len(visible) == 0:
                assert found[y][x] is None
            else:
                expected = visible.mean() if reduce == "mean" else visible.max()
                assert found[y][x] == pytest.approx(float(expected), abs=1e-3)


@needs_node
@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_weights_in_the_page_equal_eager(page, weights_in_page, eager, model):
    found = weights_in_page(page(TEXT, model=model))
    tokens = ["[CLS]", *IDS, "[SEP]"] if model == "bert" else IDS
    dense = eager(model, input_ids=ids(*tokens)).attentions
    check_weights(found["encoder/tokens" if model == "bert" else "decoder/tokens"], dense)


@needs_node
def test_weights_in_the_page_by_words(page, weights_in_page, eager):
    from .test_words import words_of

    found = weights_in_page(page(TEXT))["encoder/words"]
    dense = eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions
    check_weights(found, tuple(words_of(layer[0])[None] for layer in dense))


@needs_node
def test_weights_in_the_page_of_an_encoder_decoder(page, weights_in_page, eager):
    found = weights_in_page(page("The cat sat", "a dog saw the mat", model="t5"))
    outputs = eager(
        "t5",
        input_ids=ids("the", "cat", "sat", "[SEP]"),
        decoder_input_ids=ids("[PAD]", "a", "dog", "saw", "the", "mat"),
    )
    for section in ("encoder", "decoder", "cross"):
        check_weights(found[f"{section}/tokens"], getattr(outputs, f"{section}_attentions"))


@needs_node
@pytest.mark.parametrize(
    "options",
    [
        {"softcap": 3.0},
        {"sinks": torch.tensor([0.5, -1.0])},
        {"mask": "window"},
        {"mask": "dense"},
        {"bias": "alibi"},
        {"bias": "table"},
        {"bias": "dense"},
        {"bias": "keys"},
    ],
    ids=str,
)
def test_every_term_of_the_score_is_carried(tmp_path, weights_in_page, options):
    import sightline

    torch.manual_seed(3)
    query, key = torch.randn(1, 2, 7, 8), torch.randn(1, 2, 9, 8)
    made = {
        "window": sightline.window(2, 1),
        "dense": torch.rand(1, 1, 7, 9) > 0.4,
        "alibi": sightline.alibi(torch.tensor([0.5, 0.1])),
        "table": sightline.relative(torch.randn(2, 7)),
        "keys": torch.randn(1, 2, 1, 9),
    }
    if options.get("bias") == "dense":
        options = {"bias": torch.randn(1, 2, 7, 9)}
    chosen = {name: made[value] if isinstance(value, str) else value for name, value in options.items()}
    matrix = sightline.AttentionMatrix(query, key, **chosen)
    store = TensorStore()
    layer = carried.carry(matrix, store, "layer 0")
    sides = [{"texts": ["x"] * n, "words": list(range(n)), "special": [], "glued": []} for n in (7, 9)]
    section = {"name": "cross", "isSelf": False, "queries": sides[0], "keys": sides[1], "layers": [layer]}
    meta = report.script_json({"sections": [section]})
    data = f'<script type="application/json" id="sightline-data">{meta}</script>'
    found = weights_in_page(data + "".join(store.parts()))
    check_weights(found["cross/tokens"], (matrix.dense(),))


@needs_node
def test_inlined_worker_paints(tmp_path):
    script = (
        "const answers = []; globalThis.self = { postMessage: (m) => answers.push(m) };\n"
        + modules.inline("worker.js")
        + """
const head = { n: 2, m: 2, width: 1, scale: 1, softcap: null, query: Float32Array.of(0, 0),
  key: Float32Array.of(0, 0), lse: Float32Array.of(Math.log(2), Math.log(2)), ranges: null, visible: null,
  bias: null, diagonals: null, slope: 0, table: null, offset: 0 };
const units = { count: 2, starts: Int32Array.of(0, 1, 2) };
self.onmessage({ data: { id: 1, head, queries: units, keys: units, region: { r0: 0, r1: 2, c0: 0, c1: 2 },
  height: 2, width: 2, reduce: "mean" } });
setTimeout(() => console.log(JSON.stringify(answers.flatMap((a) => Array.from(a.lines)))), 50);
"""
    )
    path = tmp_path / "worker.mjs"
    path.write_text(script)
    done = subprocess.run(["node", path], capture_output=True, text=True, check=True, timeout=60)
    close(json.loads(done.stdout), [0.5] * 4)
