"""Zones in PyTorch's profiler: the stages' names, in every pass and on both wings, and none without a profiler."""

import pytest
import torch

import sightline
from sightline import reference
from sightline.backends.native import zones
from sightline.common.vocabulary import STAGES
from sightline.core import library

SHOWN = {"scores", "capped", "biased", "masked", "weights", "context"}  # the scale is folded into the scores


def zones_of(run):
    """The names of Sightline's zones while ``run`` runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run()
    keys = [event.key for event in profiler.key_averages() if event.key.startswith("sightline::")]
    return {key.removeprefix("sightline::") for key in keys}


def tensors(n=150, m=150, wants=False):
    return [torch.randn(1, 4, length, 16, requires_grad=wants) for length in (n, m, m)]


OPTIONS = {"softcap": 5.0, "bias": sightline.alibi(torch.rand(4)), "mask": torch.rand(150, 150) < 0.8}


def test_stages_have_one_list_of_names():
    assert reference.Stages._fields[: len(STAGES)] == STAGES
    A = sightline.AttentionMatrix(*tensors(5, 7), softcap=1.0, bias=torch.zeros(5, 7))
    assert A.stages == STAGES
    assert sightline.AttentionMatrix(*tensors(5, 7)[:2]).stages == ("scores", "scaled", "masked", "weights")


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_each_stage_of_both_passes_is_a_zone(backend, torch_threads):
    torch_threads(1)
    q, k, v = tensors(wants=True)
    with sightline.backend(backend):
        forward = zones_of(lambda: sightline.attention(q, k, v, **OPTIONS))
        backward = zones_of(lambda: sightline.attention(q, k, v, **OPTIONS).sum().backward())
    assert forward - {"scaled", "attention"} == {"forward", *SHOWN}
    assert {"backward", "grad_scores", "grad_context", "weights"} <= backward


def test_a_small_call_on_many_threads_is_seen(torch_threads):
    """The calling thread takes part even where others could be through before it begins."""
    torch_threads(8)
    q, k, v = tensors()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(200):
            sightline.attention(q, k, v)
    counts = {event.key: event.count for event in profiler.key_averages()}
    assert min(counts[f"sightline::{stage}"] for stage in ("forward", "scores", "weights", "context")) >= 200


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_readouts_have_the_same_zones(backend, torch_threads):
    torch_threads(1)
    A = sightline.AttentionMatrix(*tensors(), **OPTIONS)
    with sightline.backend(backend):
        shown = zones_of(lambda: A.readouts("entropy", "received"))
        pictures = zones_of(lambda: A.pool(4, 4))
    assert shown - {"scaled"} == SHOWN - {"context"}
    assert {"scores", "weights"} <= pictures


def test_decoding_has_them_too(torch_threads):
    torch_threads(1)
    q, k, v = tensors(1, 3000)
    assert sightline.explain(q, k, v).forward.path in ("decode", "rows")
    assert {"forward", "scores", "weights", "context"} <= zones_of(lambda: sightline.attention(q, k, v))


@pytest.mark.skipif(library.available() is not None, reason="no native core")
def test_without_a_profiler_nobody_is_called(monkeypatch, torch_threads):
    torch_threads(1)
    entered = []
    q, k, v = tensors()
    zones_of(lambda: sightline.attention(q, k, v))
    monkeypatch.setattr(zones, "_name", lambda stage: entered.append(stage) or "x")
    sightline.attention(q, k, v)
    assert entered == [] and not zones.profiled()


def test_an_error_in_a_call_ends_the_watch():
    q, k, v = tensors()
    with pytest.raises(ZeroDivisionError), zones.watching():
        raise ZeroDivisionError
    assert torch.equal(sightline.attention(q, k, v), sightline.attention(q, k, v))
