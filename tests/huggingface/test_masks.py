"""The mask function says what Transformers' own says, as ranges wherever there are ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import padding
from torch import Tensor
from transformers import BertConfig, BloomConfig, GPT2Config, LlamaConfig, MistralConfig
from transformers.masking_utils import (
    and_masks,
    bidirectional_mask_function,
    blockwise_overlay,
    causal_mask_function,
    chunked_causal_mask_function,
    create_causal_mask,
    or_masks,
    packed_sequence_compatibility_function,
    sdpa_mask,
    sliding_window_bidirectional_mask_function,
    sliding_window_causal_mask_function,
)

from sightline.huggingface import mask as mask_module
from sightline.huggingface import sightline_mask
from sightline.huggingface.mask import takes_bool_masks
from sightline.huggingface.pattern import edges_agree, ranges_of
from sightline.huggingface.range_mask import RangeMask, as_sightline

B, N, M = 3, 11, 17
USED = (17, 9, 4)
POSITIONS = torch.tensor([[*range(5), *range(4), *range(2)], [*range(11)], [*range(3), 0, *range(7)]])
SEQUENCES = torch.tensor([[0] * 5 + [1] * 4 + [2] * 2, [0] * 11, [0] * 3 + [1] + [2] * 7])

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "causal": causal_mask_function,
    "bidirectional": bidirectional_mask_function,
    "window": sliding_window_causal_mask_function(4),
    "both sides": sliding_window_bidirectional_mask_function(3),
    "chunks": chunked_causal_mask_function(4, torch.tensor([0, 3, 1])),
}
PACKED = {
    name: packed_sequence_compatibility_function(function, POSITIONS, SEQUENCES)
    for name, function in FUNCTIONS.items()
}


def both(**call: Any) -> tuple[Tensor | None, Tensor]:
    """Ours, and Transformers' own without any shortcut."""
    ours = sightline_mask(**call)
    call.pop("allow_is_bidirectional_skip", None)
    return ours, sdpa_mask(**call, allow_is_causal_skip=False)


@pytest.mark.parametrize("side", [None, "left", "right", "holes"])
@pytest.mark.parametrize("offsets", [(0, 0), (6, 0), (40, 34), (torch.tensor(6), 0)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_known_functions_are_ranges(name: str, offsets: tuple[Any, int], side: str | None) -> None:
    q_offset, kv_offset = offsets
    keys = None if side is None else padding(side, M, USED).bool()
    if keys is not None:
        keys = torch.cat((torch.zeros(B, kv_offset, dtype=torch.bool), keys), 1)
    call = {"batch_size": B, "q_length": N, "kv_length": M, "q_offset": q_offset, "kv_offset": kv_offset}
    ours, expected = both(**call, mask_function=FUNCTIONS[name], attention_mask=keys)
    assert isinstance(ours, RangeMask)
    assert ours.shape == expected.shape
    assert ours.dtype == torch.bool
    assert torch.equal(ours.dense(), expected)
    assert torch.equal(as_sightline(ours).visible((B, 2, N, M), ours.device).expand(B, 1, N, M), expected)


@pytest.mark.parametrize("name", PACKED)
def test_packed_sequences_are_ranges(name: str) -> None:
    ours, expected = both(batch_size=B, q_length=N, kv_length=N, mask_function=PACKED[name])
    assert isinstance(ours, RangeMask)
    assert ours.keys is None
    assert torch.equal(ours.dense(), expected)


def test_masks_shorter_than_a_static_cache() -> None:
    ours, expected = both(batch_size=B, q_length=2, kv_length=20, q_offset=5, kv_offset=0,
                          attention_mask=padding("left", 7, (7, 5, 3)).bool())  # fmt: skip
    assert isinstance(ours, RangeMask)
    assert torch.equal(ours.dense(), expected)


def test_an_offset_that_changes_later_does_not_change_the_mask() -> None:
    """A static cache passes its own counter, and goes on counting in place."""
    counter = torch.tensor(3)
    mask = sightline_mask(1, 2, 8, q_offset=counter)
    assert isinstance(mask, RangeMask)
    before = mask.dense()
    counter.add_(2)
    assert torch.equal(mask.dense(), before)


@pytest.mark.parametrize("side", ["left", "right", "holes"])
def test_one_row(side: str) -> None:
    ours, expected = both(
        batch_size=B, q_length=1, kv_length=M, q_offset=12, attention_mask=padding(side, M, USED).bool()
    )
    if isinstance(ours, RangeMask):
        ours = ours.dense()
    assert ours is not None
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("lengths", [(0, 4), (1, 0), (3, 0), (0, 0)])
def test_nothing_there(lengths: tuple[int, int]) -> None:
    ours, expected = both(batch_size=2, q_length=lengths[0], kv_length=lengths[1])
    assert ours is not None
    assert ours.shape == expected.shape


@pytest.mark.parametrize("block", [1, 60, 1 << 24])
def test_unknown_functions_are_tried(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Ranges are recognised by blocks of rows; anything else stays a dense tensor."""
    monkeypatch.setattr(mask_module, "_BLOCK", block)
    images = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, -1, -1, -1, -1]] * B)
    prefix = or_masks(causal_mask_function, blockwise_overlay(images))
    ours, expected = both(batch_size=B, q_length=N, kv_length=N, mask_function=prefix)
    assert isinstance(ours, RangeMask)
    assert torch.equal(ours.dense(), expected)

    every_second = and_masks(causal_mask_function, lambda b, h, q, k: (q - k) % 2 == 0)
    ours, expected = both(batch_size=B, q_length=N, kv_length=N, mask_function=every_second, use_vmap=True)
    assert not isinstance(ours, RangeMask)
    assert torch.equal(ours, expected)


def test_a_rule_that_no_longer_fits_is_not_believed() -> None:
    function = sliding_window_causal_mask_function(4)
    position = torch.arange(N)[None]
    low, high = ranges_of(function, position)
    assert edges_agree(function, position, (low, high), 0, N, 1)
    for wrong in ((low - 1, high), (low + 1, high), (low, high + 1), (low, high - 1)):
        assert not edges_agree(function, position, wrong, 0, N, 1)


def test_nothing_to_hide_is_no_mask() -> None:
    call = {"batch_size": B, "q_length": N, "kv_length": N, "mask_function": bidirectional_mask_function}
    skip = {"allow_is_bidirectional_skip": True}
    assert sightline_mask(**call, **skip) is None
    assert sightline_mask(**call, **skip, attention_mask=torch.ones(B, N, dtype=torch.bool)) is None
    assert sightline_mask(**call, **skip, attention_mask=padding("left", N, (11, 5, 3)).bool()) is not None
    assert sightline_mask(**call) is not None
    window = call | {"mask_function": sliding_window_bidirectional_mask_function(3)}
    assert sightline_mask(**window, **skip) is not None
    step = call | {"q_length": 1}  # one row is evaluated, not derived
    assert sightline_mask(**step, **skip) is None
    assert sightline_mask(**step, **skip, attention_mask=padding("left", N, (11, 5, 3)).bool()) is not None
    assert sightline_mask(**step) is not None


def test_memory_stays_linear() -> None:
    """A mask of 10^10 entries."""
    length = 100_000
    mask = sightline_mask(2, length, length, attention_mask=padding("left", length, (length, 7)).bool())
    assert isinstance(mask, RangeMask)
    assert mask.shape == (2, 1, length, length)
    parts = (mask.low, mask.high, mask.keys)
    assert sum(part.numel() * part.element_size() for part in parts if part is not None) < 10 * 2 * length


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BertConfig, True),
        (LlamaConfig, True),
        (GPT2Config, True),
        (MistralConfig, True),
        (BloomConfig, False),
    ],
)
def test_who_gets_bool_masks(config: type, expected: bool) -> None:
    import transformers.models.bloom.modeling_bloom  # noqa: F401  (what loading a model would import)

    assert takes_bool_masks(config) is expected


def test_other_models_get_float_masks() -> None:
    import transformers.models.bloom.modeling_bloom  # noqa: F401  (what loading a model would import)

    config = BloomConfig(attn_implementation="sightline")
    mask = create_causal_mask(config, torch.zeros(1, 3, 4), torch.tensor([[0, 1, 1]]), None)
    assert mask.dtype == torch.float32
    assert mask[0, 0, 1].tolist() == [
        torch.finfo(torch.float32).min,
        0,
        mask.min(),
    ]


class TestRangeMask:
    """It passes for the dense bool tensor that it stands for."""

    @pytest.fixture
    def mask(self) -> RangeMask:
        keys = padding("holes", M, USED).bool()
        mask = sightline_mask(B, N, M, 6, mask_function=FUNCTIONS["window"], attention_mask=keys)
        assert isinstance(mask, RangeMask)
        return mask

    @pytest.mark.parametrize(
        "part",
        [
            lambda mask: mask[:, :, :, :9],
            lambda mask: mask[:, :, :, 3:12],
            lambda mask: mask[:, :, -2:, :],
            lambda mask: mask[:, :, slice(-1, None), :],
            lambda mask: mask[1:],
            lambda mask: mask[:, :, 4:, 2:],
            lambda mask: mask.clone().detach().contiguous(),
            lambda mask: mask.to("cpu", torch.bool),
        ],
    )
    def test_stays_small(self, mask: RangeMask, part: Callable[[Tensor], Tensor]) -> None:
        assert isinstance(part(mask), RangeMask)
        assert torch.equal(part(mask).dense(), part(mask.dense()))

    @pytest.mark.parametrize(
        "operation",
        [
            lambda mask: ~mask,
            lambda mask: mask[:, 0],
            lambda mask: mask[:, 0, :, :],
            lambda mask: mask[1],
            lambda mask: mask[..., ::2],
            lambda mask: mask.expand(-1, 4, -1, -1),
            lambda mask: mask.float(),
            lambda mask: mask & torch.ones(N, M, dtype=torch.bool),
            lambda mask: torch.cat([mask, mask], dim=-1),
            lambda mask: torch.where(mask, 0.0, -1.0),
            lambda mask: torch.zeros(B, 1, N, M).masked_fill(~mask, -1.0),
            lambda mask: mask == mask,
            lambda mask: mask.sum(-1),
            lambda mask: mask.all(),
            lambda mask: mask.index_select(0, torch.tensor([2, 0])),
            lambda mask: mask.repeat_interleave(2, dim=0),
        ],
    )
    def test_other_operations_are_right(self, mask: RangeMask, operation: Callable[[Tensor], Tensor]) -> None:
        actual = operation(mask)
        assert not isinstance(actual, RangeMask)
        assert torch.equal(actual, operation(mask.dense()))

    def test_writing_is_refused(self, mask: RangeMask) -> None:
        with pytest.raises(TypeError, match=r"would write into a Sightline mask.*mask\.dense\(\)"):
            mask.masked_fill_(torch.ones(N, M, dtype=torch.bool), False)

    @pytest.mark.parametrize(
        "wrong", [lambda scores, mask: scores + mask, lambda scores, mask: scores.add_(mask[:, :, :, :M])]
    )
    def test_adding_to_scores_is_refused(
        self, mask: RangeMask, wrong: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """With a plain bool tensor this would add 1 at the visible keys: a wrong result without an error."""
        with pytest.raises(RuntimeError, match=r'masks are bool.*attn_implementation="eager"'):
            wrong(torch.randn(B, 1, N, M), mask)

    def test_says_what_it_is(self, mask: RangeMask) -> None:
        assert repr(mask) == "RangeMask(shape=[3, 1, 11, 17], device='cpu')"
