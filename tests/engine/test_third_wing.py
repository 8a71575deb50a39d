"""A backend is added by writing it and naming it once: conftest.py adds a third one, the definition itself.

Every test of this folder that runs on "cpu" and "chunked" runs on it as well.
"""

import pytest
import torch

import sightline


def test_it_is_known_and_chosen_by_name():
    q = torch.randn(1, 2, 5, 4)
    with sightline.backend("definition"):
        explanation = sightline.explain(q, q, q)
        readouts = sightline.AttentionMatrix(q, q).explain("entropy")
    assert explanation.forward.path == "whole" and "it was asked for" in explanation.reasons[0]
    assert readouts["entropy"].startswith("the definition: it was asked for")
    with pytest.raises(ValueError, match="known: auto, cpu, cuda, triton, chunked, definition"):
        sightline.backend("no such thing").__enter__()


def test_what_it_cannot_take_raises_where_it_was_asked_for():
    q = torch.randn(1, 1, 5000, 2)
    message = "'definition' was asked for, but it holds the whole matrix, and this one has more than"
    with sightline.backend("definition"), pytest.raises(ValueError, match=message):
        sightline.attention(q, q, q)


def test_what_it_cannot_read_the_others_do():
    q = torch.randn(1, 2, 5, 4, requires_grad=True)
    with sightline.backend("definition"):
        A = sightline.AttentionMatrix(q, q, detach=False)
        (of_entropy,) = torch.autograd.grad(A.entropy().sum(), q)
        (of_picture,) = torch.autograd.grad(A.pool(2, 2)[..., 0, 0].sum(), q)
    assert of_entropy.abs().sum() > 0
    assert of_picture.abs().sum() > 0
    assert A.explain("entropy")["entropy"] == "native; gradients by the same kernels"
