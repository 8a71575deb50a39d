"""The self-contained page: closed to the network, safe with any text, and its weights equal Python's."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.common.atomic import write_atomically
from sightline.reading.reading import Reading, Section
from sightline.reading.tokens import tokens_of_places
from sightline.view import carried, modules, report
from sightline.view.summary import Selection, summarize
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
    text = page(TEXT).replace("http://www.w3.org/2000/svg", "")  # a name that nobody looks up
    assert not re.search(r"(?:https?:)?//[\w-]+\.\w", re.sub(r"//# .*", "", text))
    assert not re.search(r"<(?:link|script|img|iframe)[^>]*\s(?:src|href)=\"(?!data:)", text)
    assert not re.search(r"^\s*import\s", text, re.MULTILINE)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith(
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;"
    )
    assert "Jain & Wallace 2019" in meta_of(text)["about"]["caveat"]


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_it_carries_the_queries_and_keys(page, model_folder, model):
    from sightline.huggingface.load import load_model
    from sightline.reading.published import read

    text = page(TEXT, model=model)
    layers = meta_of(text)["layers"]
    matrices = read(load_model(str(model_folder(model))), TEXT).sections[0].layers
    assert len(layers) == len(matrices)
    for layer, matrix in zip(layers, matrices, strict=True):
        problem = matrix.problem
        for name, vectors in (("query", problem.query[0]), ("key", problem.key[0])):
            found = torch.tensor(tensor_of(text, layer["tensors"][name]))
            step = vectors.abs().amax(1, keepdim=True) / 32767
            assert bool(((found - vectors).abs() <= 0.51 * step).all())
        torch.testing.assert_close(torch.tensor(tensor_of(text, layer["tensors"]["lse"])), matrix.lse[0])
        assert ("ranges" in layer["tensors"]) == (model != "bert")


def test_hostile_text(page):
    text = page(HOSTILE, "</script>")
    # How many tensors there are depends on the numbers; everything else is the same in every page.
    block = r'<script type="text/plain" id="tensor-\d+">[^<]*</script>'
    rest, clean = (re.sub(block, "", each) for each in (text, page("cat")))
    assert rest.count("<script") == clean.count("<script")
    assert rest.count("</script") == clean.count("</script")
    assert "<!-- the" not in text
    assert meta_of(text)["about"]["texts"] == [" ".join(HOSTILE.split()), "</script>"]
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
    for entry in ("main.js", "compute/worker.js", "live/worker.js"):
        order: list[str] = []
        modules._visit(entry, order)
        exported = [
            found["name"] for each in order for found in modules._EXPORT.finditer(modules.source(each))
        ]
        assert len(exported) == len(set(exported))
        assert not re.search(r"^\s*(?:import|export)\b", modules.inline(entry), re.MULTILINE)


HARNESS = """
import { readFileSync } from "node:fs";
import { createAnswerer } from "./compute/answerer.js";
import { CarriedSource } from "./source/carried.js";

const page = readFileSync(process.argv[2], "utf8");
const block = (id) => page.match(new RegExp(`id="${id}">([^<]*)</script>`))[1];
const source = new CarriedSource(JSON.parse(block("sightline-data")), block, createAnswerer);
const plain = (row) => Array.from(row, (w) => (Number.isNaN(w) ? null : w));
const range = (count, one) => Promise.all(Array.from({ length: count }, (_, at) => one(at)));
const whole = async (place, reduce, level) => {
  const tile = { level, row: 0, column: 0 };
  const { values, width } = await source.tile(place, tile, { reduce, quick: false });
  return Array.from({ length: values.length / width }, (_, y) => plain(values.subarray(y * width, (y + 1) * width)));
};
const out = {};
const about = await source.about();
for (const { name, layers } of about.sections) {
  out[name] = await range(layers.length, (at) =>
    range(layers[at].heads + 2, async (h) => {
      const place = { trace: "page", call: layers[at].call, head: ["mean", "max"][h - layers[at].heads] ?? String(h) };
      const { n, m } = layers[at];
      return {
        rows: await range(n, async (i) => plain(await source.row(place, i, i + 1))),
        columns: await range(m, async (j) => plain(await source.column(place, j, j + 1))),
        received: plain(await source.received(place)),
        cells: await whole(place, "mean", 0),
        mean: await whole(place, "mean", 1),
        max: await whole(place, "max", 1),
        merged: plain(await source.row(place, 0, Math.min(2, n))),
        stages: place.head.startsWith("m") ? null : await source.stages(place, n - 1, 3),
        cell: await source.cell(place, n - 1, 0),
      };
    }),
  );
}
for (const { section, name } of about.flows) {
  const { n } = about.sections.find((each) => each.name === section).layers[0];
  const one = (direction) => (at) => source.flow("page", section, name, { direction, from: at, to: at + 1 }).then(plain);
  out[`${section}/${name}`] = { to: await range(n, one("to")), from: await range(n, one("from")) };
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
    """Everything that the page says of every head against dense weights, a tuple of [1,H,N,M]."""
    for layer, weights in zip(found, dense, strict=True):
        heads = weights[0]
        received = heads.mean(1)
        over = zip((heads.mean(0), heads.amax(0)), (received.mean(0), received.amax(0)), strict=True)
        for head, (w, gets) in zip(layer, [*zip(heads, received, strict=True), *over], strict=True):
            check_head(head, w, gets)


def numbers(rows):
    return torch.tensor([[0.0 if x is None else x for x in row] for row in rows])


def check_head(head, w, received):
    close = {"atol": 1e-3, "rtol": 0}
    torch.testing.assert_close(numbers(head["rows"]), w, **close)
    hidden = torch.tensor([[x is None for x in row] for row in head["rows"]])
    assert bool((w[hidden] == 0).all())
    torch.testing.assert_close(numbers(head["columns"]), numbers(head["rows"]).T, atol=1e-6, rtol=0)
    assert head["cells"] == head["rows"]
    torch.testing.assert_close(numbers([head["received"]])[0], received, **close)
    torch.testing.assert_close(numbers([head["merged"]])[0], w[:2].mean(0), **close)
    check_picture(head["mean"], w, hidden, torch.mean)
    check_picture(head["max"], w, hidden, torch.amax)
    check_cell(head["cell"], w[-1], hidden[-1])
    if head["stages"] is not None:
        check_stages(head["stages"], w[-1])


def check_picture(found, w, hidden, reduce):
    n, m = w.shape
    for y in range(-(-n // 2)):
        for x in range(-(-m // 2)):
            part = (slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
            visible = w[part][~hidden[part]]
            if len(visible) == 0:
                assert found[y][x] is None
            else:
                assert found[y][x] == pytest.approx(float(reduce(visible)), abs=1e-3)


def check_cell(cell, row, hidden):
    assert (cell["weight"] is None) == bool(hidden[0])
    assert cell["of"] == int((~hidden).sum())
    assert cell["entropy"] == pytest.approx(float(-torch.special.xlogy(row, row).sum()), abs=5e-3)
    if cell["weight"] is not None:
        assert cell["weight"] == pytest.approx(float(row[0]), abs=1e-3)


def check_stages(told, row):
    """The largest weights, and that they follow from the stages that are shown."""
    assert [key["weight"] for key in told["keys"]] == pytest.approx(
        row.topk(len(told["keys"])).values.tolist(), abs=1e-3
    )
    for key in told["keys"]:
        dot = sum(q * k for q, k in zip(told["queryVector"], key["vector"], strict=True))
        assert key["scores"] == pytest.approx(dot, rel=1e-5, abs=1e-6)
        assert key["scaled"] == pytest.approx(dot * told["scale"], rel=1e-5, abs=1e-6)
        assert key["weight"] == pytest.approx(math.exp(key["masked"] - told["lse"]), rel=1e-4, abs=1e-6)
    if told["context"] is not None and not told["rest"]["keys"]:
        context = sum(key["weight"] * torch.tensor(key["value"]) for key in told["keys"])
        torch.testing.assert_close(context, torch.tensor(told["context"]), atol=1e-4, rtol=1e-4)


@needs_node
@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_weights_in_the_page_equal_eager(page, weights_in_page, eager, model):
    found = weights_in_page(page(TEXT, model=model))
    tokens = ["[CLS]", *IDS, "[SEP]"] if model == "bert" else IDS
    dense = eager(model, input_ids=ids(*tokens)).attentions
    check_weights(found["encoder" if model == "bert" else "decoder"], dense)


@needs_node
@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_rollout_in_the_page_equals_the_measure(page, weights_in_page, eager, model):

    section = "encoder" if model == "bert" else "decoder"
    found = weights_in_page(page(TEXT, model=model))[f"{section}/rollout"]
    tokens = ["[CLS]", *IDS, "[SEP]"] if model == "bert" else IDS
    mix = torch.eye(len(tokens))
    for weights in eager(model, input_ids=ids(*tokens)).attentions:
        mix = (0.5 * torch.eye(len(tokens)) + 0.5 * weights[0].mean(0)) @ mix
    torch.testing.assert_close(torch.tensor(found["to"]), mix, atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(found["from"]), mix.T, atol=1e-3, rtol=0)


def test_numbers_are_means_over_rows(page, eager):
    layers = meta_of(page(TEXT, model="gpt2"))["layers"]
    apart = (torch.arange(len(IDS))[:, None] - torch.arange(len(IDS))).abs()
    for layer, weights in zip(layers, eager("gpt2", input_ids=ids(*IDS)).attentions, strict=True):
        w, found = weights[0].double(), layer["numbers"]["heads"]
        close(found["entropy"], -torch.xlogy(w, w).sum(-1).mean(-1))
        close(found["max"], w.amax(-1).mean(-1))
        close(found["first"], w[..., 0].mean(-1))
        close(found["distance"], (w * apart).sum(-1).mean(-1))
        close(found["itself"], w.diagonal(0, 1, 2).mean(-1))
        close(found["previous"], w.diagonal(-1, 1, 2).mean(-1))  # of the queries that have one


def test_labels_and_induction_are_the_measures(page, model_folder):
    from sightline import measure
    from sightline.huggingface.load import load_model
    from sightline.reading.published import read

    words = "the cat sat on mat " * 3
    layers = meta_of(page(words, model="gpt2"))["layers"]
    tokens = torch.tensor(ids(*words.split()))
    matrices = read(load_model(str(model_folder("gpt2"))), words).sections[0].layers
    for layer, matrix in zip(layers, matrices, strict=True):
        found = layer["numbers"]
        assert found["labels"] == [each.label for each in measure.head_labels(matrix, tokens)]
        close(found["heads"]["induction"], measure.induction(matrix, tokens)[0])
    alone = meta_of(page("the cat sat", model="gpt2"))["layers"][0]["numbers"]  # no token comes again
    assert "induction" not in alone["heads"] and None not in alone["labels"]


@pytest.fixture
def graded_by(model_folder):
    """A trace of a tiny model after a backward pass, from a small share of one number of its third position."""
    import transformers

    import sightline

    def run(kind):
        model = transformers.AutoModel.from_pretrained(model_folder(kind)).eval()
        tokens = ["[CLS]", *IDS, "[SEP]"] if kind == "bert" else IDS
        with sightline.trace(model, gradients=True) as trace:
            found = model(input_ids=torch.tensor([ids(*tokens)])).last_hidden_state
        (1e-4 * found[0, 2, 1]).backward()
        trace.tokens = [f"▁{token}" for token in tokens]
        return trace

    return run


@needs_node
@pytest.mark.parametrize("model", ["bert", "llama"])  # the second has groups of heads and a causal mask
def test_relevance_in_the_page_equals_the_measure(weights_in_page, graded_by, tmp_path, model):
    trace = graded_by(model)
    trace.report(tmp_path / "x.html")
    found = weights_in_page((tmp_path / "x.html").read_text(encoding="utf-8"))
    (name,) = [each for each in found if each.endswith("/relevance")]
    # The 1 that each target starts with would hide everything else.
    start = torch.eye(len(trace.tokens))
    expected = trace.relevance(list(range(len(start))))[0].float() - start
    close = {"atol": 1e-3 * float(expected.max()), "rtol": 0}
    assert 0 < expected.max() < 0.1
    torch.testing.assert_close(torch.tensor(found[name]["to"]) - start, expected, **close)
    torch.testing.assert_close(torch.tensor(found[name]["from"]) - start, expected.T, **close)


def test_relevance_needs_the_gradients_of_all_layers(graded_by, tmp_path, monkeypatch):
    trace = graded_by("bert")

    def carried(**options):
        trace.report(tmp_path / "x.html", **options)
        meta = meta_of((tmp_path / "x.html").read_text(encoding="utf-8"))
        flows = [flow["name"] for flow in meta["about"]["flows"]]
        return flows, ["gradient" in layer["tensors"] for layer in meta["layers"]], meta["about"]["notices"]

    assert carried() == (["rollout", "relevance"], [True] * 3, [])
    size = 2 * 13 * 24  # bytes of a layer's values, and of its gradients
    monkeypatch.setattr(report, "VALUE_LIMIT", 6 * size - 1)
    flows, gradients, notices = carried()
    assert (flows, gradients) == (["rollout"], [False] * 3)
    assert notices == ["gradients are left out of this page for its size: it shows no relevance"]
    monkeypatch.undo()
    trace[1].gradient = None
    assert carried() == (["rollout"], [False] * 3, [])
    assert carried(layers=[0, 2])[0] == ["rollout", "relevance"]


@needs_node
def test_values_give_the_context(page, weights_in_page):
    found = weights_in_page(page(TEXT))["encoder"]
    told = found[1][2]["stages"]
    assert len(told["heads"]) == 4
    assert told["heads"][2]["context"] == pytest.approx(told["context"])
    assert all(len(each["context"]) == 6 for each in told["heads"])


def test_values_are_left_out_of_a_page_that_would_be_too_large(page, monkeypatch):
    whole = meta_of(page(TEXT))
    assert "value" in whole["layers"][0]["tensors"] and whole["about"]["notices"] == []
    monkeypatch.setattr(report, "VALUE_LIMIT", 100)
    meta = meta_of(page(TEXT))
    assert not any("value" in layer["tensors"] for layer in meta["layers"])
    assert not any(layer["hasValues"] for layer in meta["about"]["sections"][0]["layers"])
    assert "values are left out" in meta["about"]["notices"][0]


def test_an_image_is_carried_as_a_canvas_takes_it(tmp_path):
    import sightline

    with sightline.trace(None) as trace:
        torch.nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 6, 4))
    pixels = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
    trace.medium = sightline.Picture(pixels, rows=2, columns=3)
    trace.report(tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    found = tensor_of(text, meta_of(text)["medium"])
    assert meta_of(text)["about"]["medium"]["rows"] == 2
    assert (found[..., :3] == pixels.numpy()).all() and (found[..., 3] == 255).all()


@needs_node
def test_weights_in_the_page_of_an_encoder_decoder(page, weights_in_page, eager):
    found = weights_in_page(page("The cat sat", "a dog saw the mat", model="t5"))
    outputs = eager(
        "t5",
        input_ids=ids("the", "cat", "sat", "[SEP]"),
        decoder_input_ids=ids("[PAD]", "a", "dog", "saw", "the", "mat"),
    )
    for section in ("encoder", "decoder", "cross"):
        check_weights(found[section], getattr(outputs, f"{section}_attentions"))


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
    path = tmp_path / "page.html"
    sides = tuple(tokens_of_places(n) for n in (7, 9))
    reading = Reading("a layer", (), (Section("cross", *sides, (matrix,), False, False),), ())
    write_atomically(path, report.report_parts(summarize(reading, Selection())))
    found = weights_in_page(path.read_text(encoding="utf-8"))
    check_weights(found["cross"], (matrix.dense(),))


@needs_node
def test_the_inlined_worker_answers_and_can_be_stopped(page, tmp_path):
    text = page(TEXT)
    script = (
        "const answers = []; globalThis.self = { postMessage: (m) => answers.push(m) };\n"
        + modules.inline("compute/worker.js")
        + """
import { readFileSync } from "node:fs";
const page = readFileSync(process.argv[2], "utf8");
const block = (id) => page.match(new RegExp(`id="${id}">([^<]*)</script>`))[1];
const { layers } = JSON.parse(block("sightline-data"));
const refs = Object.values(layers[0].tensors).flatMap((ref) => (ref.steps ? [ref, ref.steps] : [ref]));
const texts = Object.fromEntries(refs.map(({ id }) => [id, block(id)]));
const place = { call: 0, head: "1" };
self.onmessage({ data: { id: 1, what: "row", place, from: 0, to: 1, layers: [{ call: 0, raw: layers[0], texts }] } });
self.onmessage({ data: { id: 2, what: "column", place, from: 0, to: 1 } });
self.onmessage({ data: { cancel: 2 } });
self.onmessage({ data: { id: 3, what: "stages", place: { call: 9, head: "0" }, query: 0, k: 1 } });
setTimeout(() => console.log(JSON.stringify(answers.map((a) => ({ ...a, answer: Array.from(a.answer ?? []) })))), 60);
"""
    )
    path, held = tmp_path / "worker.mjs", tmp_path / "held.html"
    path.write_text(script)
    held.write_text(text)
    done = subprocess.run(["node", path, held], capture_output=True, text=True, check=True, timeout=60)
    answers = {each["id"]: each for each in json.loads(done.stdout)}
    assert set(answers) == {1, 3}
    assert sum(answers[1]["answer"]) == pytest.approx(1, abs=1e-3)
    assert answers[3]["error"]
