"""What must hold for attention itself, whatever the numbers."""

import pytest
import torch
from hypothesis import assume, given

import sightline
from cases import cases, close
from sightline.backends import schedule


@given(case=cases())
def test_rows_sum_to_one(case):
    case.options.pop("sinks", None)
    A = case.matrix()
    visible = A.max_score() > -torch.inf
    close(A.dense().sum(-1), visible.float(), 1e-5)
    close(A.received().sum(-1), visible.sum(-1), 1e-4)


@given(case=cases())
def test_permuting_keys_and_values_together_changes_nothing(case):
    order = torch.randperm(case.key.shape[2])
    case.options = {name: case.options[name] for name in case.options if name not in ("mask", "bias")}
    shuffled = sightline.attention(case.query, case.key[:, :, order], case.value[:, :, order], **case.options)
    close(shuffled, case.attention(), 5e-6)


@given(case=cases())
def test_permuting_queries_permutes_rows(case):
    order = torch.randperm(case.query.shape[2])
    case.options = {name: case.options[name] for name in case.options if name not in ("mask", "bias")}
    shuffled = sightline.attention(case.query[:, :, order], case.key, case.value, **case.options)
    close(shuffled, case.attention()[:, :, order], 5e-6)


@given(case=cases())
def test_adding_a_constant_to_a_row_of_scores_changes_nothing(case):
    assume("sinks" not in case.options)
    case.options.pop("bias", None)
    constant = torch.randn(*case.shape[:3], 1) * 5
    close(case.attention(bias=constant), case.attention(), 2e-5)


@given(case=cases())
def test_a_mask_equals_its_dense_form(case):
    assume("mask" in case.options)
    lazy = case.attention()
    mask = sightline.masks.mask.as_mask(case.options["mask"])
    case.options["mask"] = mask.visible(case.shape, torch.device("cpu"))
    close(case.attention(), lazy, 5e-6)


@given(case=cases())
def test_a_bias_equals_its_dense_form(case):
    assume("bias" in case.options)
    lazy = case.attention()
    bias = sightline.biases.bias.as_bias(case.options["bias"])
    case.options["bias"] = bias.dense(case.shape, torch.device("cpu")).float()
    close(case.attention(), lazy, 2e-5)


@given(case=cases())
def test_grouped_heads_equal_repeated_keys(case):
    group = case.query.shape[1] // case.key.shape[1]
    repeated = [x.repeat_interleave(group, dim=1) for x in (case.key, case.value)]
    close(sightline.attention(case.query, *repeated, **case.options), case.attention(), 5e-6)


@given(case=cases())
def test_block_sizes_agree(case):
    with sightline.backend("chunked"), pytest.MonkeyPatch.context() as patch:
        whole, A = case.attention(return_matrix=True)
        found = A.readouts("entropy", "received", topk=1)
        patch.setattr(schedule, "BLOCK_ENTRIES", 300)
        context, A = case.attention(return_matrix=True)
        again = A.readouts("entropy", "received", topk=1)
        close(context, whole, 5e-6)
        close(again.entropy, found.entropy, 5e-6)
        close(again.received, found.received, 5e-5)


@given(case=cases())
def test_thread_counts_agree(case):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            context, A = case.attention(return_matrix=True)
            results.append((context, A.readouts("entropy", "received")))
    finally:
        torch.set_num_threads(before)
    for context, found in results[1:]:
        assert torch.equal(context, results[0][0])
        assert torch.equal(found.entropy, results[0][1].entropy)
        close(found.received, results[0][1].received, 1e-5)


@given(case=cases())
def test_inputs_are_left_alone(case):
    before = [x.clone() for x in (case.query, case.key, case.value)]
    case.attention(return_matrix=True)[1].readouts("entropy", "received", topk=1)
    assert all(torch.equal(x, y) for x, y in zip(before, (case.query, case.key, case.value), strict=True))


def test_nan_stays_in_its_row():
    q, k, v = torch.randn(3, 1, 2, 70, 16).unbind(0)
    q = q.clone()
    q[0, 1, 5, 3] = torch.nan
    for backend in ("cpu", "chunked"):
        with sightline.backend(backend):
            context = sightline.attention(q, k, v)
        assert context[0, 1, 5].isnan().all()
        context[0, 1, 5] = 0
        assert not context.isnan().any()


def test_same_input_same_result():
    q, k, v = torch.randn(3, 2, 4, 300, 32).unbind(0)
    context, A = sightline.attention(q, k, v, mask=sightline.causal(), return_matrix=True)
    for _ in range(5):
        again, B = sightline.attention(q, k, v, mask=sightline.causal(), return_matrix=True)
        assert torch.equal(again, context)
        assert torch.equal(A.received(), B.received())
