"""What keys receive, from the forward pass itself: against float64, on every wing and level."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import Case, cases, close
from engine.test_decode import TOLERANCE, decode_cases, thread_count
from sightline.backends import choose
from sightline.backends.native import kernels
from sightline.core import library
from sightline.lowering import lower


def received(case, grouped, before=0.0):
    """(context, lse, what each key received, added to ``before``)."""
    problem = lower(case.query, case.key, case.value, **case.options)
    b, h, _, m = problem.shape
    heads = problem.key.shape[1] if grouped else h
    dtype = torch.float64 if case.query.dtype == torch.float64 else torch.float32
    sums = torch.full((b, heads, m), before, dtype=dtype)
    context, lse = choose(problem).forward_received(problem, sums)
    return context, lse, sums


def wanted(stages, heads):
    sums = stages.weights.sum(2)
    return sums.unflatten(1, (heads, -1)).sum(2)


def check(case, grouped):
    stages = case.reference()
    context, lse, sums = received(case, grouped, before=0.25)
    close(context, stages.context, TOLERANCE[case.query.dtype])
    close(lse, stages.lse, 5e-6)
    close(sums - 0.25, wanted(stages, sums.shape[1]), 2e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_few_queries_against_float64(wing, dtype):
    @settings(max_examples=25)
    @given(case=decode_cases(dtype), grouped=st.booleans())
    def run(case, grouped):
        check(case, grouped)

    run()


def test_any_queries_against_float64(wing):
    @settings(max_examples=25)
    @given(case=cases(empty=True), grouped=st.booleans())
    def run(case, grouped):
        check(case, grouped)

    run()


def test_the_definition_has_it_too():
    with sightline.backend("definition"):
        check(Case(torch.randn(2, 4, 3, 8), *torch.randn(2, 2, 2, 70, 8)), True)


def test_in_float64():
    case = Case(torch.randn(1, 4, 2, 8).double(), *torch.randn(2, 1, 2, 40, 8).double())
    _, _, sums = received(case, True)
    close(sums, wanted(case.reference(), 2), 1e-12)


@pytest.mark.skipif(library.available() is not None, reason="no native core")
class TestNative:
    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 1), (2, 8, 2)])
    def test_threads_agree_to_the_bit(self, shape):
        """With groups fewer than workers, and more."""
        b, h, g = shape
        case = Case(torch.randn(b, h, 2, 64), *torch.randn(2, b, g, 5000, 64))
        with thread_count(1):
            one = received(case, True)
        for threads in (2, 3, 16):
            with thread_count(threads):
                for a, c in zip(one, received(case, True), strict=True):
                    assert torch.equal(a, c)

    def test_context_and_lse_are_those_of_the_plain_pass(self):
        case = Case(torch.randn(2, 8, 1, 32), *torch.randn(2, 2, 2, 700, 32), {"mask": sightline.causal()})
        context, lse, _ = received(case, True)
        other, other_lse = kernels.forward(lower(case.query, case.key, case.value, **case.options))
        assert torch.equal(context, other)
        assert torch.equal(lse, other_lse)

    def test_many_rows_of_one_group_are_not_cut(self):
        """40 heads with 5 queries each share a key: more rows than a part has elsewhere."""
        check(Case(torch.randn(1, 40, 5, 16), *torch.randn(2, 1, 1, 600, 16)), True)
        check(Case(torch.randn(1, 40, 5, 16), *torch.randn(2, 1, 1, 600, 16)), False)

    def test_sums_with_spare_room(self):
        room = torch.zeros(2, 3, 900)
        case = Case(torch.randn(2, 6, 1, 16), *torch.randn(2, 2, 3, 700, 16))
        problem = lower(case.query, case.key, case.value)
        kernels.forward_received(problem, room[:, :, :700])
        close(room[:, :, :700], wanted(case.reference(), 3), 1e-5)
        assert not room[:, :, 700:].any()
        strided = torch.zeros(2, 3, 700, 2)[..., 0]
        kernels.forward_received(problem, strided)
        assert torch.equal(strided, room[:, :, :700])


def test_hidden_keys_receive_nothing_whatever_they_hold(wing):
    key, value = torch.randn(2, 1, 2, 600, 16)
    key[:, :, 200:], value[:, :, 200:] = torch.nan, torch.inf
    case = Case(
        torch.randn(1, 4, 1, 16), key, value, {"mask": sightline.prefix(200) & sightline.lengths([200])}
    )
    context, _, sums = received(case, True)
    assert context.isfinite().all()
    assert not sums[:, :, 200:].any()
    close(sums.sum(-1), torch.full((1, 2), 2.0), 1e-5)


def test_far_logits(wing):
    """Logits of some hundreds: weights are made with the lse that the pass itself has found."""
    case = Case(20 * torch.randn(1, 4, 2, 64), 10 * torch.randn(1, 2, 900, 64), torch.randn(1, 2, 900, 8))
    _, _, sums = received(case, True)
    close(sums, wanted(case.reference(), 2), 2e-4)
    close(sums.sum(-1), torch.full((1, 2), 4.0), 1e-5)


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf])
def test_a_row_of_nan_spoils_what_it_sees_and_nothing_else(wing, spoiled):
    """Of one head, the key 5; a window hides the first keys from it."""
    query, key = torch.rand(2, 4, 1, 16) + 0.1, torch.randn(2, 2, 300, 16)
    key[0, 1, 205] = spoiled
    case = Case(query, key, torch.randn(2, 2, 300, 8), {"mask": sightline.window(150, 0)})
    stages = case.reference()
    for grouped in (False, True):
        _, _, sums = received(case, grouped)
        expected = wanted(stages, sums.shape[1])
        assert expected.isnan().any()
        assert torch.equal(sums.isnan(), expected.isnan())
        close(sums.nan_to_num(), expected.nan_to_num(), 1e-5)
