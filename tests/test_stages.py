"""One table of cases holds the rules of the stages wherever they are written.

The cases are in stage_cases.json: one head, with what each stage must give. Here it holds the definition and
every backend to them, in tests/view/web/stages.test.js the page.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import sightline
from sightline import reference
from sightline.common.vocabulary import STAGES

CASES = json.loads((Path(__file__).parent / "stage_cases.json").read_text(encoding="utf-8"))
WEB = Path(sightline.__file__).parent / "view" / "web"


class Problem(NamedTuple):
    """Query, key and value [1,1,·,·], the other arguments of attention, and the stages expected."""

    tensors: tuple[Tensor, Tensor, Tensor]
    terms: dict[str, Any]
    expected: dict[str, Tensor]


def tensor(rows: Any) -> Tensor:
    """A tensor of nested lists; JSON's null is -inf."""
    if isinstance(rows, list):
        return torch.stack([tensor(row) for row in rows])
    return torch.tensor(-math.inf if rows is None else rows)


def mask_of(case: dict[str, Any]) -> sightline.Mask | None:
    """Key ranges, several to a row, and a dense mask; both where there are both."""
    masks = []
    if "ranges" in case:
        runs = torch.tensor(case["ranges"])  # [N,R,2]
        spans = [sightline.ranges(run[:, 0], run[:, 1]) for run in runs.unbind(1)]
        masks.append(spans[0] if len(spans) == 1 else spans[0] | spans[1])
    if "visible" in case:
        masks.append(sightline.dense(torch.tensor(case["visible"]).bool()))
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else masks[0] & masks[1]


def bias_of(case: dict[str, Any]) -> sightline.Bias | Tensor | None:
    """A dense bias, ALiBi or a relative table."""
    if "slope" in case:
        return sightline.alibi(torch.tensor([case["slope"]]))
    if "table" in case:
        return sightline.relative(torch.tensor([case["table"]]))
    return tensor(case["bias"]) if "bias" in case else None


def problem_of(case: dict[str, Any]) -> Problem:
    query, key, value = (tensor(case[name])[None, None] for name in ("query", "key", "value"))
    terms = {
        "mask": mask_of(case),
        "bias": bias_of(case),
        "scale": case.get("scale"),
        "softcap": case.get("softcap"),
        "sinks": torch.tensor([case["sink"]]) if "sink" in case else None,
    }
    expected = {name: tensor(rows)[None, None] for name, rows in case["expected"].items()}
    return Problem((query, key, value), terms, expected)


def check(actual: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=2e-6, atol=2e-6, msg=lambda text: f"{what}: {text}"
    )


@pytest.fixture(params=CASES, ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def test_the_definition(case: dict[str, Any]) -> None:
    problem = problem_of(case)
    stages = reference.attention(*problem.tensors, **problem.terms)
    assert set(problem.expected) == {*STAGES, "lse"}
    for name, expected in problem.expected.items():
        check(getattr(stages, name), expected, name)


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize("before", [0, 64], ids=["these rows", "behind other rows"])
def test_every_backend(case: dict[str, Any], before: int, backend: str) -> None:
    """Rows in front of these change nothing for them, and take the kernels for many rows instead of few."""
    problem = problem_of(with_rows_before(case, before))
    value, weights = problem.tensors[2].requires_grad_(), problem.expected["weights"]
    with sightline.backend(backend):
        context, matrix = sightline.attention(*problem.tensors, **problem.terms, return_matrix=True)
        for name in STAGES:
            check(matrix.scores(slice(before, None), stage=name), problem.expected[name], name)
        check(matrix.lse[:, :, before:], problem.expected["lse"], "lse")
        check(matrix.dense()[:, :, before:], weights, "dense")
        for key in range(weights.shape[3]):  # single pairs have rules of their own
            one = torch.full((weights.shape[2] + before,), key)
            check(matrix.gather(one)[:, :, before:], weights[..., key], "a single pair")
        check(matrix.entropy()[:, :, before:], -torch.xlogy(weights, weights).sum(-1), "a readout")
        context[:, :, before:].sum().backward()
    check(context[:, :, before:], problem.expected["context"], "attention")
    check(value.grad, weights.sum(2)[..., None].expand_as(value), "its backward pass")


def with_rows_before(case: dict[str, Any], count: int) -> dict[str, Any]:
    """The case with its first row repeated in front; masks and biases align to the bottom right."""
    rows = len(case["query"])
    by_row = {name for name in ("query", "bias", "visible", "ranges") if len(case.get(name, ())) == rows}
    return case | {name: [case[name][0]] * count + case[name] for name in by_row}


def test_the_page_has_the_same_names() -> None:
    listed = re.search(r"STAGES = (\[.*\]);", (WEB / "common" / "stages.js").read_text(encoding="utf-8"))
    assert listed is not None
    assert tuple(json.loads(listed[1])) == STAGES


def test_the_definition_has_the_same_names() -> None:
    assert (*STAGES, "lse") == reference.Stages._fields
