"""Compares what models return under "sightline" and under "eager", at any depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import assert_equal
from torch import Tensor

import sightline


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a nested output, caches left out, by its path."""
    if isinstance(value, dict):
        pairs: Any = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    else:
        yield path, value
        return
    for name, part in pairs:
        if name != "past_key_values":
            yield from parts(part, f"{path}.{name}")


#: What Transformers wraps its models in cannot be followed by the compiler of PyTorch 2.6, eager attention or not.
compiles = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"),
    reason="this PyTorch compiles no model of this Transformers, whatever its attention",
)


def matrices(output: Any) -> dict[str, sightline.AttentionMatrix]:
    """The matrices in an output that stayed lazy."""
    return {path: part for path, part in parts(output) if isinstance(part, sightline.AttentionMatrix)}


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    """Equal numbers, types and shapes in all parts; a matrix counts as the tensor that it stands for."""
    found, expected = dict(parts(ours)), dict(parts(theirs))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        part = found[path]
        if isinstance(value, np.ndarray):
            assert isinstance(part, np.ndarray), path
            assert (part.shape, part.dtype) == (value.shape, value.dtype), path
            np.testing.assert_allclose(part, value, rtol=tolerance, atol=tolerance)
        elif isinstance(value, Tensor):
            part = part.dense() if isinstance(part, sightline.AttentionMatrix) else part
            assert part.dtype == value.dtype, path
            assert_equal(part, value, tolerance)
        elif isinstance(value, float):
            assert abs(part - value) <= tolerance * (1 + abs(value)), path
        else:
            assert part == value, path


def without_dropout(model: torch.nn.Module) -> Any:
    for module in model.modules():
        for name in ("p", "dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model
