"""What counts as met."""

from __future__ import annotations

import math

import pytest

from published.line import count, distance, equal, members, number, numbers


@pytest.mark.parametrize(
    "ours, met",
    [(0.5, True), (0.50005, True), (0.4999, False), (0.6, False), (math.nan, False), (math.inf, False)],
)
def test_a_number_is_met_within_its_tolerance(ours, met):
    assert number("x", 0.5, ours, 6e-5).met is met


def test_what_is_shown_of_a_number():
    line = number("x", 0.6660, 0.66595537, 6e-5)
    assert (line.published, line.ours, line.difference) == ("0.6660", "0.6659554", "4.5e-05 (up to 6e-05)")


def test_rows_of_numbers():
    line = numbers("x", [0, 1 / 3, -0.125], [1e-9, 0.3333333, -0.1250001], 1e-5)
    assert line.met
    assert (line.published, line.ours) == ("0 0.3333 -0.125", "0 0.3333 -0.125")
    assert not numbers("x", [0.5, 0.25], [0.5, 0.3], 1e-5).met
    assert not numbers("x", [0.5, 0.25], [0.5], 1e-5).met
    assert not numbers("x", [0.5, 0.25], [0.5, math.nan], 1e-5).met


@pytest.mark.parametrize("apart, met", [(0.0, True), (1e-5, True), (1.1e-5, False), (math.nan, False)])
def test_tensors(apart, met):
    line = distance("x", "theirs", apart, 1e-5)
    assert line.met is met
    assert line.ours == ("the same" if met else "differs")


def test_words():
    assert equal("x", "broad", "broad").met
    assert not equal("x", "broad", "local").met


def test_counts():
    assert count("x", "2 of 2", [True, True]).met
    line = count("x", "2 of 2", [True, False])
    assert not line.met
    assert line.ours == "1 of 2"


def test_sets_may_differ_by_so_many():
    assert members("x", ["1.0", "2.0"], ["2.0"], most=1).met
    assert not members("x", ["1.0", "2.0"], ["2.0", "3.0"], most=1).met
