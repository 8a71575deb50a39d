"""A trace on a GPU (a pretended one): the server computes there, and sends what it would of the CPU's."""

from __future__ import annotations

import pytest
import torch
from starlette.testclient import TestClient

import sightline
from pretend_gpu import CUDA, pretend_gpu
from sightline.view.server.app import create_app
from sightline.view.server.cancel import Cancel
from sightline.view.server.catalogue import open_calls
from sightline.view.server.flow import rollout
from sightline.view.server.service import Service

LENGTH = 300
ASKED = [
    "",
    "/calls/0/tile?level=0&row=0&column=0",
    "/calls/0/tile?level=1&row=0&column=0&head=mean&reduce=max",
    "/calls/1/cell?query=7&key=3",
    "/calls/0/row?query=200&head=max",
    "/calls/0/column?key=2",
    "/calls/0/stages?query=9",
    "/calls/1/entropy",
    "/calls/1/received?head=mean",
    "/calls/0/numbers",
    "/calls/0/thumbnails",
]


def traced(device):
    generator = torch.Generator().manual_seed(3)
    with sightline.trace(None) as trace:
        for causal in (True, False):
            query, key, value = (
                2 * torch.randn(1, 2, LENGTH, 8, generator=generator).to(device) for _ in range(3)
            )
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    trace.tokens = [f"t{i}" for i in range(LENGTH)]
    return trace


def answers(device):
    service = Service([open_calls(traced(device), "two layers", "one")])
    try:
        with TestClient(create_app(service, None)) as client:
            given = [client.get(f"/api/traces/one{asked}") for asked in ASKED]
    finally:
        service.stop()
    assert [one.status_code for one in given] == [200] * len(ASKED), [one.text[:200] for one in given]
    return given


@pytest.mark.slow
def test_what_is_sent_is_the_same():
    here = answers(torch.device("cpu"))
    with pretend_gpu():
        there = answers(CUDA)
    for asked, one, other in zip(ASKED, here, there, strict=True):
        if "x-sightline-shape" in one.headers:
            numbers = (
                torch.frombuffer(bytearray(each.content), dtype=torch.float32) for each in (one, other)
            )
            torch.testing.assert_close(*numbers, equal_nan=True, atol=1e-6, rtol=1e-4, msg=asked)
        else:
            assert close(one.json(), other.json()), asked


@pytest.mark.parametrize("direction", ["to", "from"])
def test_what_flows_is_the_same(direction):
    here = rollout([call.matrix for call in traced(torch.device("cpu"))], direction, 5, 7, Cancel())
    with pretend_gpu():
        there = rollout([call.matrix for call in traced(CUDA)], direction, 5, 7, Cancel())
    torch.testing.assert_close(here, there, atol=1e-6, rtol=1e-4)


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-5)
    return one == other
