"""What the server says equals what the matrix says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import sightline
import sightline.measure
from sightline.view import labels
from sightline.view.pyramid import TILE, Region, coarse_level, top_level
from sightline.view.server import readings, service
from sightline.view.server.app import create_app
from sightline.view.server.cancel import Cancel, StoppedError
from sightline.view.server.catalogue import open_calls, open_files
from sightline.view.server.cells import RegionCells

from .conftest import LENGTH, make_trace


def floats(answer):
    assert answer.status_code == 200, answer.text
    shape = [int(n) for n in answer.headers["x-sightline-shape"].split(",")]
    return torch.tensor(np.frombuffer(answer.content, "<f4").reshape(shape).copy())


def dense(trace, call, head):
    """Float64 weights, NaN where hidden."""
    problem = trace[call].matrix.problem
    q, k = problem.query[0].double(), problem.key[0].double()
    scores = q @ k.mT * problem.scale
    if call == 0:
        scores = scores.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -math.inf)
    weights = scores.softmax(-1)
    weights = weights.amax(0) if head == "max" else weights.mean(0) if head == "mean" else weights[head]
    return weights.masked_fill(scores[0] == -math.inf, math.nan)


def pooled(weights, cell, reduce):
    height, width = (-(-size // cell) for size in weights.shape)
    margin = (0, width * cell - weights.shape[1], 0, height * cell - weights.shape[0])
    whole = torch.nn.functional.pad(weights, margin, value=math.nan)
    cells = whole.view(height, cell, width, cell).transpose(1, 2).flatten(2)
    if reduce == "mean":
        return cells.nanmean(-1)
    most = cells.nan_to_num(nan=-1).amax(-1)
    return most.masked_fill(most < 0, math.nan)


def over_heads(trace, call, head, cell, reduce):
    """A head's cells; over heads, the mean or maximum of each head's own."""
    if not isinstance(head, str):
        return pooled(dense(trace, call, head), cell, reduce)
    each = torch.stack([pooled(dense(trace, call, h), cell, reduce) for h in (0, 1)])
    return each.mean(0) if head == "mean" else each.amax(0)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("head", [0, 1, "mean", "max"])
def test_single_weights(client, here, trace, call, head):
    query = {"head": head, "level": 0, "row": 5, "column": 1}
    found = floats(client.get(f"{here}/calls/{call}/tile", params=query))
    expected = dense(trace, call, head)[5 * TILE :, TILE : 2 * TILE]
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("level, row, column", [(1, 2, 0), (1, 0, 1), (2, 1, 1), (3, 0, 0)])
@pytest.mark.parametrize("head, reduce", [(1, "mean"), (0, "max"), ("mean", "max"), ("max", "mean")])
def test_cells(client, here, trace, level, row, column, head, reduce):
    assert (coarse_level(LENGTH, LENGTH), top_level(LENGTH, LENGTH)) == (1, 3)
    query = {"head": head, "level": level, "row": row, "column": column, "reduce": reduce}
    answer = client.get(f"{here}/calls/0/tile", params=query)
    assert answer.headers["x-sightline-sampled"] == "0"
    whole = over_heads(trace, 0, head, 1 << level, reduce)
    expected = whole[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
    torch.testing.assert_close(floats(answer).double(), expected, atol=1e-6, rtol=1e-4, equal_nan=True)


def sampled(weights, cell, step):
    """Means of the middle one of every ``step`` rows, in cells of all columns."""
    rows = torch.full_like(weights, math.nan)
    rows[step // 2 :: step] = weights[step // 2 :: step]
    return pooled(rows, cell, "mean")


@pytest.mark.parametrize("name", ["window", "sinks", "holes", "alibi", "bfloat16", "float64"])
@pytest.mark.parametrize("step", [1, 2, 8])
def test_every_level_of_every_kind_of_attention(name, step):
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(1, 4, 611, 16, generator=generator)
    key = torch.randn(1, 2, 700, 16, generator=generator)
    dtype = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(name, torch.float32)
    query, key = query.to(dtype), key.to(dtype)
    options = {
        "window": {"mask": sightline.window(90, 5)},
        "sinks": {"mask": sightline.causal(), "sinks": torch.randn(4, generator=generator)},
        "holes": {"mask": torch.rand(1, 4, 611, 700, generator=generator) > 0.6},
        "alibi": {"mask": sightline.causal(), "bias": sightline.alibi(torch.rand(4, generator=generator))},
    }.get(name, {"mask": sightline.causal()})
    matrix = sightline.AttentionMatrix(query, key, **options)
    masked = matrix.scores(stage="masked")[0]
    weights = matrix.to(torch.float64).dense()[0] if name != "holes" else matrix.dense()[0].double()
    weights = weights.masked_fill(masked == -math.inf, math.nan)
    fresh = sightline.AttentionMatrix(query, key, **options)
    for level, reduce in itertools.product((0, 2, 3), ("mean", "max")):
        region = Region(0, 512, 128, 384, 1 << level)
        cells = RegionCells(fresh, region, step)
        for piece in cells.todo():
            cells.take(piece)
        for head in range(4):
            expected = weights[head, :512, 128:384]
            if step > 1 << level:
                expected = expected[step // 2 :: step].repeat_interleave(step, 0)
            elif step > 1:
                rows = torch.full_like(expected, math.nan)
                rows[step // 2 :: step] = expected[step // 2 :: step]
                expected = rows
            torch.testing.assert_close(
                cells.picture(reduce)[head].double(),
                pooled(expected, 1 << level, reduce),
                atol=2e-6,
                rtol=1e-4,
                equal_nan=True,
            )


def test_rows_and_columns_of_several(client, here, trace):
    expected, get = (
        dense(trace, 0, 1),
        lambda name, **q: floats(client.get(f"{here}/calls/0/{name}", params={"head": 1, **q})).double(),
    )
    rows = expected[700:740]
    mean = rows.nan_to_num(nan=0.0).mean(0).masked_fill(rows.isnan().all(0), math.nan)
    torch.testing.assert_close(get("row", query=700, to=740), mean, atol=1e-6, rtol=1e-4, equal_nan=True)
    cols = expected[:, 30:50]
    total = cols.nansum(1).masked_fill(cols.isnan().all(1), math.nan)
    torch.testing.assert_close(get("column", key=30, to=50), total, atol=1e-6, rtol=1e-4, equal_nan=True)
    for name, ask in (("row", {"query": 700, "to": 765}), ("column", {"key": 5, "to": 5})):
        answer = client.get(f"{here}/calls/0/{name}", params=ask)
        assert answer.status_code == 400 and answer.json()["error"].startswith("to: ")


def test_thumbnails(client, here, trace, monkeypatch):
    found = client.get(f"{here}/calls/1/thumbnails")
    assert found.headers["x-sightline-shape"] == "2,32,32" and found.headers["x-sightline-sampled"] == "0"
    torch.testing.assert_close(floats(found), trace[1].matrix.pool(32, 32)[0], atol=1e-6, rtol=1e-4)
    monkeypatch.setattr(readings, "AT_ONCE", 0)
    made = readings.thumbnails(trace[1].matrix, Cancel())
    rows = dense(trace, 1, 0)[10::21]
    cell = ((torch.arange(LENGTH) + 1) * 32 - 1) // LENGTH
    first = torch.stack([rows[:, cell == c].mean(1) for c in range(32)], 1)
    expected = torch.stack([first[cell[10::21] == c].mean(0) for c in range(32)])
    torch.testing.assert_close(made[0].double(), expected, atol=1e-6, rtol=1e-4)


def test_sampled_first_then_exact(client, here, trace, monkeypatch):
    monkeypatch.setattr(service, "AT_ONCE", 0)
    query = {"head": 0, "level": 3, "row": 0, "column": 0}
    quick = client.get(f"{here}/calls/1/tile", params={**query, "quality": "quick"})
    assert quick.headers["x-sightline-sampled"] == "1" and quick.headers["cache-control"] == "no-store"
    exact = client.get(f"{here}/calls/1/tile", params=query)
    assert exact.headers["x-sightline-sampled"] == "0" and "immutable" in exact.headers["cache-control"]
    # Rows are a sample, every second one here; columns are not.
    assert len(range(1, LENGTH, 2)) == 650
    expected = sampled(dense(trace, 1, 0), 8, 2)
    torch.testing.assert_close(floats(quick).double(), expected, atol=1e-6, rtol=1e-4)
    again = client.get(f"{here}/calls/1/tile", params={**query, "quality": "quick"})
    assert again.headers["x-sightline-sampled"] == "0" and again.content == exact.content
    same = client.get(f"{here}/calls/1/tile", params=query, headers={"if-none-match": exact.headers["etag"]})
    assert same.status_code == 304 and not same.content


def test_readouts(client, here, trace):
    matrix, expected = trace[0].matrix, dense(trace, 0, 1)
    get = lambda name, **query: client.get(f"{here}/calls/0/{name}", params={"head": 1, **query})  # noqa: E731
    close = lambda a, b: torch.testing.assert_close(a.double(), b, atol=1e-6, rtol=1e-4, equal_nan=True)  # noqa: E731
    close(floats(get("row", query=700)), expected[700])
    close(floats(get("column", key=3)), expected[:, 3])
    torch.testing.assert_close(floats(get("entropy")), matrix.entropy()[0, 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        floats(get("received")), matrix.received()[0, 1] / LENGTH, atol=1e-7, rtol=1e-4
    )
    told = get("cell", query=700, key=30).json()
    assert told["weight"] == pytest.approx(float(expected[700, 30]), rel=1e-4)
    assert told["score"] == pytest.approx(float(matrix.scores(700, 30)[0, 1, 0, 0]), rel=1e-5)
    assert told["rank"] == int((expected[700] > expected[700, 30]).sum()) + 1 and told["of"] == 701
    assert told["entropy"] == pytest.approx(float(matrix.entropy()[0, 1, 700]), rel=1e-4)
    assert get("cell", query=3, key=30).json()["weight"] is None


def test_stages(client, here, trace):
    told = client.get(f"{here}/calls/0/stages", params={"head": 0, "query": 900, "k": 5}).json()
    expected = dense(trace, 0, 0)[900].nan_to_num(nan=-1)
    assert [each["key"] for each in told["keys"]] == expected.topk(5).indices.tolist()
    for each in told["keys"]:
        assert math.exp(each["masked"] - told["lse"]) == pytest.approx(each["weight"], rel=1e-4)
    total = sum(each["weight"] for each in told["keys"]) + told["rest"]["weight"]
    assert total == pytest.approx(1, abs=1e-5) and told["rest"]["keys"] == 901 - 5
    few = client.get(f"{here}/calls/0/stages", params={"head": 0, "query": 1, "k": 5}).json()
    assert len(few["keys"]) == 2


def test_stages_follow_from_the_vectors(client, here, trace):
    told = client.get(f"{here}/calls/0/stages", params={"head": 1, "query": 900, "k": 3}).json()
    problem = trace[0].matrix.problem
    assert told["queryVector"] == pytest.approx(problem.query[0, 1, 900].tolist())
    for each in told["keys"]:
        assert each["scores"] == pytest.approx(np.dot(told["queryVector"], each["vector"]), rel=1e-5)
        assert each["scaled"] == pytest.approx(each["scores"] * told["scale"], rel=1e-5)
        assert each["value"] == pytest.approx(problem.value[0, 1, each["key"]].tolist())
    contexts = [dense(trace, 0, h)[900].nan_to_num(nan=0.0) @ problem.value[0, h].double() for h in (0, 1)]
    assert told["context"] == pytest.approx(contexts[1].tolist(), rel=1e-4, abs=1e-5)
    assert [each["head"] for each in told["heads"]] == [0, 1]
    assert told["heads"][0]["context"] == pytest.approx(contexts[0].tolist(), rel=1e-4, abs=1e-5)
    assert told["sink"] is None and told["stages"] == ["scores", "scaled", "masked"]


@pytest.mark.parametrize("direction", ["to", "from"])
def test_rollout(client, here, trace, direction):
    section = client.get(here).json()["sections"][0]["name"]
    mix = torch.eye(LENGTH, dtype=torch.float64)
    for call in (0, 1):
        weights = torch.stack([dense(trace, call, h).nan_to_num(nan=0.0) for h in (0, 1)]).mean(0)
        mix = (0.5 * torch.eye(LENGTH) + 0.5 * weights) @ mix
    asked = {"section": section, "name": "rollout", "direction": direction, "from": 40, "to": 42}
    found = floats(client.get(f"{here}/flow", params=asked)).double()
    expected = mix[40:42].mean(0) if direction == "to" else mix[:, 40:42].sum(1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("direction", ["to", "from"])
def test_relevance(direction):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 30, 8, requires_grad=True) for _ in range(3))
    with sightline.trace(None, gradients=True) as trace:
        first = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        second = torch.nn.functional.scaled_dot_product_attention(first, key, value)
    second[0, :, 7].sum().backward()
    gradient, made = trace[1].gradient, service.Service([open_calls(trace, "graded")])
    with TestClient(create_app(made, None)) as client:
        here = f"/api/traces/{next(iter(made.traces))}"
        about = client.get(here).json()
        asked = {"section": about["sections"][0]["name"], "name": "relevance", "direction": direction}
        assert [flow["name"] for flow in about["flows"]] == ["rollout", "relevance"]
        found = floats(client.get(f"{here}/flow", params={**asked, "from": 7, "to": 9}))
        trace[1].gradient = None
        made.add(open_calls(trace, "no gradient in the last layer", "partly"))
        refused = client.get("/api/traces/partly/flow", params={**asked, "from": 7})
        assert [flow["name"] for flow in client.get("/api/traces/partly").json()["flows"]] == ["rollout"]
        assert refused.status_code == 404 and "gradients=True" in refused.json()["error"]
    trace[1].gradient = gradient
    whole = trace.relevance(list(range(30)))[0]
    expected = whole[7:9].mean(0) if direction == "to" else whole[:, 7:9].sum(1)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)


def test_media(saved, tmp_path):
    trace = make_trace(50)
    for medium in (
        sightline.Picture(torch.rand(8, 6, 3), 4, 3, first=1),
        sightline.Sound(torch.rand(20, 5), seconds=0.5, count=10),
    ):
        trace.medium = medium
        trace.save(tmp_path / "x.safetensors")
        made = service.Service(open_files([tmp_path / "x.safetensors"]))
        with TestClient(create_app(made, None)) as client:
            here = f"/api/traces/{next(iter(made.traces))}"
            told, answer = client.get(here).json()["medium"], client.get(f"{here}/medium")
            shape = [int(n) for n in answer.headers["x-sightline-shape"].split(",")]
            assert told == medium.about()
            if told["kind"] == "image":
                pixels = np.frombuffer(answer.content, np.uint8).reshape(shape)
                assert shape == [8, 6, 4] and (pixels[..., 3] == 255).all()
                assert (torch.tensor(pixels[..., :3].copy()) == medium.pixels).all()
            else:
                torch.testing.assert_close(floats(answer), medium.frames)


@pytest.mark.parametrize("whole", [True, False])
def test_numbers_of_heads(client, here, trace, monkeypatch, whole):
    if not whole:  # as for a text too long to be labelled
        monkeypatch.setattr(readings, "are_labelled", lambda section, at: False)
    told = client.get(f"{here}/calls/1/numbers").json()
    step = 1 if whole else -(-LENGTH // 48)
    rows = range(step // 2, LENGTH, step)
    assert told["sampled"] is not whole and told["rows"] == len(rows)
    expected = dense(trace, 1, 1)[list(rows)]
    entropy = -torch.special.xlogy(expected, expected).sum(1).mean()
    assert told["heads"]["entropy"][1] == pytest.approx(float(entropy), rel=1e-4)
    assert told["heads"]["first"][1] == pytest.approx(float(expected[:, 0].mean()), rel=1e-4)
    previous = torch.stack([w[i - 1] for w, i in zip(expected, rows, strict=True) if i]).mean()
    assert told["heads"]["previous"][1] == pytest.approx(float(previous), rel=1e-4)


def repeating(length=60):
    """A head that looks for what followed the same token, and one at random; tokens come again."""
    key = torch.eye(10).repeat(length // 10, 1)
    before = key.roll(1, 0)
    keys = torch.stack([before, torch.randn(length, 10)])
    keys[0, 0] = 0
    queries = 9 * torch.stack([key, torch.randn(length, 10)])
    with sightline.trace(None) as trace:
        torch.nn.functional.scaled_dot_product_attention(
            queries[None], keys[None], keys[None], is_causal=True
        )
    trace.tokens = [f"t{i % 10}" for i in range(length)]
    return trace


def test_labels_know_the_tokens_that_come_again(monkeypatch):
    trace, ids = repeating(), torch.arange(60) % 10
    section = open_calls(trace, "repeats").reading.sections[0]
    told = readings.numbers(section, 0, Cancel())
    assert told["labels"] == [each.label for each in sightline.measure.head_labels(trace[0], ids)]
    assert told["labels"][0] == "induction"
    assert told["heads"]["induction"] == pytest.approx(
        sightline.measure.induction(trace[0], ids)[0].tolist(), rel=1e-5
    )
    monkeypatch.setattr(readings, "REPEATS", 59)
    told = readings.numbers(section, 0, Cancel())
    assert told["labels"] == [None, None] and "induction" not in told["heads"]


def test_labels_stop_between_heads(monkeypatch):
    section, looks = open_calls(repeating(), "repeats").reading.sections[0], []

    def check():
        looks.append(True)
        if len(looks) == 3:
            raise StoppedError

    monkeypatch.setattr(labels, "_STEP", 1)
    with pytest.raises(StoppedError):
        labels.labels_of(section, 0, check)
    assert len(looks) == 3


def test_tokens(client, here):
    assert client.get(f"{here}/tokens", params={"from": 1298}).json() == {
        "from": 1298,
        "of": LENGTH,
        "texts": ["t1298", "t1299"],
        "words": [1298, 1299],
        "special": [False, False],
        "glued": [False, False],
    }
    found = client.get(f"{here}/find", params={"text": "T129", "from": 200}).json()["found"]
    assert found[:2] == [1290, 1291]
    assert client.get(f"{here}/find", params={"text": "nowhere"}).json()["found"] == []


def test_about(client, here, trace):
    told = client.get(here).json()
    assert told["model"] == "two layers" and "Jain" in told["caveat"]
    (section,) = told["sections"]
    assert section["queries"] == section["keys"] == {"id": "0", "count": LENGTH, "places": False}
    assert [(layer["call"], layer["heads"], layer["n"]) for layer in section["layers"]] == [
        (0, 2, LENGTH), (1, 2, LENGTH),
    ]  # fmt: skip
    assert section["layers"][0]["verified"] == trace[0].verified and section["layers"][0]["hasValues"]
    assert told["start"]["query"] == LENGTH - 1  # too long to look for the most telling head
    listed = client.get("/api/traces").json()
    assert listed["can"] == {"read": False, "upload": False}
    assert listed["traces"][0]["title"] == "small.safetensors"
