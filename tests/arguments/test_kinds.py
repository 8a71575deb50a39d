"""The checks themselves, by the values that they tell apart."""

import numpy
import pytest
import torch

from sightline.common import check


def test_integers():
    assert check.integer("n", numpy.uint8(3)) == 3 and type(check.integer("n", torch.tensor(3))) is int
    with pytest.raises(TypeError, match="n: must be an integer, got True"):
        check.integer("n", True)
    with pytest.raises(ValueError, match="n: must lie between 1 and 4, got 5. Cut it."):
        check.integer("n", 5, 1, 4, remedy="Cut it.")
    with pytest.raises(ValueError, match="n: must be 4 or less, got 5"):
        check.integer("n", 5, high=4)


def test_numbers():
    assert check.number("x", numpy.float32(0.5)) == 0.5 and check.number("x", 2) == 2.0
    for value, error, message in (
        ("2", TypeError, "x: must be a number, got '2'"),
        (torch.ones(2), TypeError, r"x: must be a number, got a tensor of shape \[2\], torch.float32"),
        (10**400, ValueError, "x: must be finite, got inf"),
        (-1, ValueError, "x: must be above 0, got -1.0"),
    ):
        with pytest.raises(error, match=message):
            check.number("x", value, above=0)


def test_integers_in_a_tensor():
    assert check.integers_tensor("n", numpy.array([1, 2], dtype=numpy.int16)).dtype == torch.int64
    assert check.integers_tensor("n", []).dtype == torch.int64
    with pytest.raises(TypeError, match=r"n: expected integers \[B\], got \[1, 2.5\], torch.float32"):
        check.integers_tensor("n", [1, 2.5])
    with pytest.raises(TypeError, match=r"n: expected integers \[B\], got \[1, 9223372036854775808\]"):
        check.integers_tensor("n", [1, 2**63])


def test_long_values_are_cut():
    assert len(check.shown("x" * 500)) == 60 and check.shown(numpy.zeros((2, 3))) == "ndarray of shape [2, 3]"
