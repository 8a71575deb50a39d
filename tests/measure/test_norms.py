"""Value-weighted norms against the vectors themselves, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure

from .dense import small


@settings(max_examples=8)
@given(case=cases(), projected=st.booleans())
def test_weighted_norms(case, projected):
    small(case, 5000)
    b, h, n, m = case.shape
    stages, width = case.reference(), case.value.shape[3]
    value = case.value.double().repeat_interleave(h // case.value.shape[1], dim=1)
    output = torch.randn(7, h * width) if projected else None
    if projected:
        parts = output.double().reshape(7, h, width).movedim(1, 0)
        value = torch.einsum("hfe,bhme->bhmf", parts, value)
    # The vectors w_ij · f(x_j), every one of them.
    wanted = torch.linalg.vector_norm(stages.weights[..., None] * value[:, :, None], dim=-1)
    found = measure.weighted_norms(case.matrix(), output)
    close(found.norms, torch.linalg.vector_norm(value, dim=-1), 5e-5)
    close(found.part(), wanted, 1e-4)
    close(found.part(slice(1, None), -1), wanted[:, :, 1:, -1:], 1e-4)
    close(found.received(), wanted.sum(-2), 1e-3)
    close(found.row_sums(), wanted.sum(-1), 1e-3)
    k = min(m, 4)
    values, indices = found.topk(k)
    close(values, wanted.topk(k).values, 1e-4)
    seen = (stages.masked > -torch.inf).sum(-1, keepdim=True)
    assert ((indices >= 0) == (torch.arange(k) < seen)).all()
    close(values, torch.where(indices < 0, 0, wanted.gather(-1, indices.clamp(min=0))), 1e-4)


def test_by_hand():
    value = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])[None, None]
    A = sightline.AttentionMatrix(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 2), value)
    found = measure.weighted_norms(A)
    close(found.norms, torch.tensor([[[5.0, 0.0, 2.0]]]), 1e-6)
    values, indices = found.topk(3)
    close(values[0, 0, 0], torch.tensor([5 / 3, 2 / 3, 0]), 1e-6)
    assert indices[0, 0, 0].tolist() == [0, 2, 1]
    # A projection to one number: |v·(1, 0)|.
    close(
        measure.weighted_norms(A, torch.tensor([[1.0, 0.0]])).norms, torch.tensor([[[3.0, 0.0, 0.0]]]), 1e-6
    )
    assert measure.weighted_norms(A[0, 0]).part().shape == (2, 3)


def test_errors():
    A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 3, 2))
    with pytest.raises(ValueError, match="weighted_norms: this matrix holds no value"):
        measure.weighted_norms(A)
    A = sightline.AttentionMatrix(*torch.zeros(3, 1, 2, 3, 4))
    with pytest.raises(
        ValueError, match=r"output: expected .* \[F, H·E\] with H=2 and E=4, got shape \[8, 5\]"
    ):
        measure.weighted_norms(A, torch.zeros(8, 5))
    with pytest.raises(ValueError, match="topk: k must be an integer from 1 to M=3"):
        measure.weighted_norms(A).topk(4)
