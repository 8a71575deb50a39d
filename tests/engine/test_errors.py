"""Input that makes no sense: each case by its message. Errors name the argument, both values and the axis."""

import pytest
import torch

import sightline
from cases import BACKENDS
from sightline.backends.native import kernels

Q, K, V = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8), torch.randn(2, 2, 6, 3)


def attend(q=Q, k=K, v=V, **options):
    return sightline.attention(q, k, v, **options)


CASES = {
    "three axes": (lambda: attend(q=Q[0]), ValueError, r"query: expected 4 axes \[B,H,N,D\], got shape \[4, 5, 8\]"),
    "no tensor": (lambda: attend(q=[1.0]), TypeError, "query: expected a tensor, got list"),
    "widths": (lambda: attend(k=K[..., :7]), ValueError, "key: width 7 differs from the query's 8 .axis D"),
    "no width": (lambda: attend(q=Q[..., :0], k=K[..., :0]), ValueError, "query: width 0 .axis D"),
    "batches": (lambda: attend(k=K[:1], v=V[:1]), ValueError, "key: batch 1 differs from the query's 2"),
    "groups": (lambda: attend(q=Q[:, :3]), ValueError, "key: 2 key/value heads .* do not divide the query's 3"),
    "value length": (lambda: attend(v=V[:, :, :5]), ValueError, r"value: 5 entries along axis M \(2\).* 6"),
    "value heads": (lambda: attend(v=V[:, :1]), ValueError, r"value: 1 entries along axis G \(1\).* 2"),
    "integers": (lambda: attend(q=Q.long()), TypeError, "query: dtype torch.int64 is not supported"),
    "mixed dtypes": (lambda: attend(k=K.double()), TypeError, "key: dtype torch.float64 differs .* torch.float32"),
    "mixed devices": (lambda: attend(k=K.to("meta")), ValueError, "key: on meta, but the query is on cpu"),
    "nan scale": (lambda: attend(scale=float("nan")), ValueError, "scale: must be finite, got nan"),
    "infinite scale": (lambda: attend(scale=float("inf")), ValueError, "scale: must be finite, got inf"),
    "text scale": (lambda: attend(scale="1/8 of it"), TypeError, "scale: must be a number, got '1/8 of it'"),
    "digits as scale": (lambda: attend(scale="3"), TypeError, "scale: must be a number, got '3'"),
    "bool scale": (lambda: attend(scale=True), TypeError, "scale: must be a number, got True"),
    "bool softcap": (lambda: attend(softcap=True), TypeError, "softcap: must be a number, got True"),
    "no value": (lambda: attend(v=None), TypeError, r"value: expected a tensor \[B,G,M,E\], got None"),
    "no value to explain": (lambda: sightline.explain(Q, K, None), TypeError, "value: expected a tensor"),
    "text for a flag": (lambda: attend(return_matrix="no"), TypeError, "return_matrix: must be True or False"),
    "scale on meta": (lambda: attend(scale=torch.tensor(0.5, device="meta")), ValueError, "scale: on meta"),
    "softcap on meta": (lambda: attend(softcap=torch.tensor(0.5, device="meta")), ValueError, "softcap: on meta"),
    "scales": (lambda: attend(scale=torch.ones(4)), (TypeError, ValueError), r"scale: .*\[4\]"),
    "softcaps": (lambda: attend(softcap=torch.ones(4)), (TypeError, ValueError), r"softcap: .*\[4\]"),
    "zero softcap": (lambda: attend(softcap=0.0), ValueError, "softcap: must be above 0, got 0.0"),
    "dropout": (lambda: attend(dropout=1.5), ValueError, "dropout: must lie between 0 and 1, got 1.5"),
    "sinks shape": (lambda: attend(sinks=torch.zeros(3)), ValueError, r"sinks: shape \[3\] does not fit H=4"),
    "sinks dtype": (lambda: attend(sinks=torch.zeros(4).long()), TypeError, "sinks: expected a floating tensor"),
    "mask shape": (
        lambda: attend(mask=torch.ones(5, 7, dtype=torch.bool)), ValueError,
        r"mask: shape \[5, 7\] does not broadcast to \[B=2, H=4, N=5, M=6\]: axis M has 7 entries, expected 6 or 1",
    ),
    "mask axes": (lambda: attend(mask=torch.ones(1, 2, 4, 5, 6).bool()), ValueError, "mask: shape .* more axes"),
    "float mask": (lambda: attend(mask=torch.zeros(5, 6)), TypeError, "mask: expected torch.bool.* as bias="),
    "integer mask": (lambda: attend(mask=torch.ones(5, 6).long()), TypeError, "mask: expected torch.bool.*bool()"),
    "no mask": (lambda: attend(mask="causal"), TypeError, "mask: expected a sightline mask .* got str"),
    "mask device": (lambda: attend(mask=torch.ones(5, 6).bool().to("meta")), ValueError, "mask: on meta"),
    "bias shape": (lambda: attend(bias=torch.zeros(3, 1, 1)), ValueError, "bias: .* axis H has 3 entries, expected 4"),
    "bool bias": (lambda: attend(bias=torch.ones(5, 6).bool()), TypeError, "bias: expected a floating.* as mask="),
    "no bias": (lambda: attend(bias=1.0), TypeError, "bias: expected sightline.alibi"),
    "slopes": (lambda: attend(bias=sightline.alibi(torch.ones(3))), ValueError, "alibi: 3 slopes .* H=4"),
    "slopes axes": (lambda: sightline.alibi(torch.ones(1, 2, 3)), ValueError, "alibi: slopes must be"),
    "slopes dtype": (lambda: sightline.alibi(torch.ones(3).long()), TypeError, "alibi slopes: expected a floating"),
    "table": (lambda: attend(bias=sightline.relative(torch.ones(3, 5))), ValueError, "relative: .* 3 heads .* H=4"),
    "even table": (lambda: sightline.relative(torch.ones(4, 4)), ValueError, r"relative: table must be \[H, 2R\+1\]"),
    "negative left": (lambda: sightline.window(-1, 0), ValueError, "window left: must be 0 or more, got -1"),
    "negative right": (lambda: sightline.window(0, -2), ValueError, "window right: must be 0 or more, got -2"),
    "float window": (lambda: sightline.window(1.5, 0), TypeError, "window left: must be an integer, got 1.5"),
    "align word": (lambda: sightline.causal("centre"), ValueError, "causal: align must be .* got 'centre'"),
    "align type": (lambda: sightline.causal(None), TypeError, "causal align: must be"),
    "align batch": (lambda: attend(mask=sightline.causal(torch.zeros(3).long())), ValueError, "align: 3 offsets .* B=2"),
    "align floats": (lambda: sightline.causal(torch.zeros(2)), TypeError, "causal align: expected integers"),
    "negative prefix": (lambda: sightline.prefix(-1), ValueError, "prefix n: must be 0 or more, got -1"),
    "too long": (lambda: attend(mask=sightline.lengths([3, 7])), ValueError, "lengths: a length of 7 .* M=6 keys"),
    "negative length": (lambda: attend(mask=sightline.lengths([3, -1])), ValueError, "lengths: .* got -1"),
    "lengths count": (lambda: attend(mask=sightline.lengths([3])), ValueError, r"lengths: .*\[B\]=\[2\].* \[1\]"),
    "float lengths": (lambda: sightline.lengths(torch.ones(2)), TypeError, "lengths: expected integers"),
    "negative ids": (lambda: sightline.documents(torch.tensor([0, -1])), ValueError, "documents: ids .* got -1"),
    "scattered ids": (
        lambda: sightline.documents(torch.tensor([0, 1, 0])), ValueError, "documents: id 0 .* comes back",
    ),
    "ids of another length": (
        lambda: attend(mask=sightline.documents(torch.zeros(5).long(), torch.zeros(5).long())), ValueError,
        "documents: key_ids has shape .5., but the axis has length 6",
    ),
    "ids and N != M": (
        lambda: attend(mask=sightline.documents(torch.zeros(5).long())), ValueError, "documents: ids alone need",
    ),
    "ranges": (lambda: sightline.ranges(0.5, 1), TypeError, "ranges lo: must be an integer"),
    "backend": (lambda: sightline.backend("gpu").__enter__(), ValueError, "there is no backend 'gpu'; known: auto"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, error, message = CASES[name]
    with pytest.raises(error, match=message):
        call()


A = sightline.AttentionMatrix(Q, K)

MATRIX_CASES = {
    "k of 0": (lambda: A.topk(0), ValueError, "topk: k must be an integer from 1 to M=6"),
    "k past M": (lambda: A.topk(7), ValueError, "topk: k must be an integer from 1 to M=6 .* got 7"),
    "unknown readout": (lambda: A.readouts("entropi"), ValueError, "there is no readout 'entropi'; known: entropy"),
    "unknown stage": (lambda: A.scores(stage="softmax"), ValueError, "stage: there is no 'softmax'; known: scores"),
    "row": (lambda: A[0, 0, 5], IndexError, "index: 5 is out of range for axis N with 5 entries"),
    "head": (lambda: A[0, -5], IndexError, "index: -5 is out of range for axis H"),
    "too many": (lambda: A[0, 0, 0, 0, 0], IndexError, "index: too many indices"),
    "text": (lambda: A[0, 0, "first"], TypeError, "index: takes integers, slices, .*, got 'first'"),
    "backwards": (lambda: A[0, 0, ::-1], ValueError, "index: a slice along axis N must have a step of 1 or more"),
    "segments": (lambda: A.mass(torch.zeros(5).long()), ValueError, "mass: segments of shape .* M=6"),
    "negative segment": (lambda: A.mass(torch.full((6,), -1)), ValueError, "mass: segments count from 0, got -1"),
    "no segments": (lambda: A.readouts("mass"), ValueError, "mass: give segments="),
    "diagonal": (lambda: A.diagonal(6), ValueError, "diagonal: offset 6 lies outside a matrix of N=5 by M=6"),
    "gather": (lambda: A.gather(torch.full((5,), 6)), ValueError, "gather: indices from 6 to 6 do not fit M=6"),
    "gather shape": (lambda: A.gather(torch.zeros(3).long()), ValueError, "gather indices: .* axis N has 3 entries"),
    "no cells": (lambda: A.pool(0, 3), ValueError, "pool height: must be 1 or more, got 0"),
    "reduction": (lambda: A.pool(2, 2, reduce="median"), ValueError, "pool reduce: there is no 'median'; known: mean, max, sum"),
    "pool step": (lambda: A.pool(2, 2, rows=slice(0, 4, 2)), ValueError, "pool: rows and cols are slices of step 1"),
    "product": (lambda: A @ torch.randn(5, 2), ValueError, "the other side has 5 entries along the axis M=6"),
    "product type": (lambda: A @ torch.ones(6, 2).long(), TypeError, "must be a floating tensor"),
    "truth": (lambda: bool(A), ValueError, "has no truth value"),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX_CASES)
def test_matrix_message(name):
    call, error, message = MATRIX_CASES[name]
    with pytest.raises(error, match=message):
        call()


def test_a_forced_backend_that_cannot_says_why():
    message = "'cpu' was asked for, but the dtype is torch.float64"
    with sightline.backend("cpu"), pytest.raises(ValueError, match=message):
        attend(Q.double(), K.double(), V.double())


@pytest.mark.parametrize(
    "name, message",
    [
        ("avx1024", "SIGHTLINE_ISA: there is no level 'avx1024' in this build"),
        ("AVX2", "SIGHTLINE_ISA: there is no level 'AVX2'"),
    ],
)
def test_a_level_that_does_not_exist(name, message, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", name)
    with pytest.raises(ValueError, match=message):
        attend()
    with pytest.raises(ValueError, match=message):
        sightline.info()


def test_a_level_that_the_machine_lacks(monkeypatch):
    from sightline.core import library

    monkeypatch.setattr(library, "levels", lambda: ["generic"])
    monkeypatch.setattr(library, "built_levels", lambda: ["generic", "avx512"])
    library._level.cache_clear()
    monkeypatch.setenv("SIGHTLINE_ISA", "avx512")
    with pytest.raises(ValueError, match="this machine cannot run 'avx512'; it can run generic"):
        attend()
    library._level.cache_clear()


def test_a_backend_from_the_environment(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_BACKEND", "chunked")
    monkeypatch.setattr(kernels, "forward", None)
    assert attend().shape == (2, 4, 5, 3)
    monkeypatch.setenv("SIGHTLINE_BACKEND", "gpu")
    with pytest.raises(ValueError, match="SIGHTLINE_BACKEND: there is no backend 'gpu'"):
        attend()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 4, 0, 6), (2, 4, 5, 0), (2, 4, 0, 0)])
def test_empty_problems_have_empty_or_zero_results(backend, shape):
    b, h, n, m = shape
    q, k, v = torch.randn(b, h, n, 8), torch.randn(b, 2, m, 8), torch.randn(b, 2, m, 3)
    with sightline.backend(backend):
        context, A = attend(q, k, v, return_matrix=True, mask=sightline.causal())
        assert torch.equal(context, torch.zeros(b, h, n, 3))
        assert torch.equal(A.lse, torch.full((b, h, n), -torch.inf))
        assert torch.equal(A.received(), torch.zeros(b, h, m))
        assert torch.equal(A.entropy(), torch.zeros(b, h, n))
        assert A.dense().shape == (b, h, n, m)
