"""generate() gives the tokens that it gives under eager; recorded matrices stay as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import compiles
from tiny_models import DECODERS, SEQ2SEQS, assert_equal, padding, pair, tokens
from transformers import CompileConfig, StaticCache

import sightline

ALL = DECODERS | SEQ2SEQS
LONG = 9  # generated tokens: more than the windows of the tiny models


def prompt(name: str, batch: int) -> dict[str, Any]:
    side = "right" if name in SEQ2SEQS else "left"
    return {"input_ids": tokens(batch, 8), "attention_mask": padding(side, 8, (8, 5, 3)[:batch])}


def generated(model: Any, name: str, batch: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    return model.generate(**prompt(name, batch), max_new_tokens=LONG, min_new_tokens=LONG, **options)


@pytest.mark.parametrize(
    "cache, beams",
    [
        ("dynamic", 1),
        ("static", 3),
        pytest.param("dynamic", 3, marks=pytest.mark.slow),
        pytest.param("static", 1, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_same_tokens_as_eager(name: str, cache: str, beams: int) -> None:
    ours, eager = pair(ALL[name])
    options = {"num_beams": beams, "do_sample": False, "cache_implementation": cache}
    assert torch.equal(generated(ours, name, **options), generated(eager, name, **options))


KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "sampling": {"do_sample": True, "top_k": 10, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampled beams": {"num_beams": 2, "do_sample": True},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
    "assisted": {"assistant_model": True},
    "prefill in chunks": {"prefill_chunk_size": 3},
}


#: Every kind on a decoder and on a pair; on the others those that differ most.
_QUICK = [(name, kind) for name in ("llama", "t5") for kind in KINDS]
_QUICK += [
    (name, kind) for name in ("gpt2", "mistral", "gemma2", "bart") for kind in ("static cache", "beams")
]
_OTHERS = [(name, kind) for name in ("gpt2", "mistral", "gemma2", "bart") for kind in KINDS]


@pytest.mark.parametrize(
    "name, kind",
    [*_QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in _OTHERS if each not in _QUICK)],
)
def test_attentions_of_generate_equal_eager(name: str, kind: str) -> None:
    """Read after the last token: by then a static cache has been written many times."""
    outputs = []
    for model in pair(ALL[name]):
        options = {"do_sample": False, "output_attentions": True, "return_dict_in_generate": True} | KINDS[
            kind
        ]
        if "assistant_model" in options:
            options["assistant_model"] = model
        alone = kind in ("prompt lookup", "assisted")  # one text only
        outputs.append(generated(model, name, 1 if alone else 3, output_scores=True, **options))
    actual, expected = outputs
    assert torch.equal(actual.sequences, expected.sequences)
    for ours, theirs in zip(actual.scores, expected.scores, strict=True):
        assert_equal(ours, theirs, 1e-4)
    for part in [each for each in expected if each.endswith("attentions")]:
        compare(actual[part], expected[part], part)


def compare(matrices: Any, weights: Any, part: str) -> None:
    """Equal at any depth, except in rows of padding, which see nothing."""
    if isinstance(weights, tuple):
        for ours, theirs in zip(matrices, weights, strict=True):
            compare(ours, theirs, part)
        return
    # Assisted generation cuts steps out of a matrix, which gives tensors.
    dense = matrices.dense() if isinstance(matrices, sightline.AttentionMatrix) else matrices
    seen = dense.sum(-1, keepdim=True) > 0
    assert seen.all() or part == "attentions"
    assert seen[:, :, -1:].all()
    assert_equal(dense * seen, weights * seen)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_matrix_stays_what_it_was(cache: str, inference: bool) -> None:
    ours, _ = pair(DECODERS["llama"])
    past = StaticCache(config=ours.config, max_cache_len=16) if cache == "static" else None
    with torch.inference_mode() if inference else torch.no_grad():
        first = ours(tokens(1, 5), past_key_values=past, use_cache=True, output_attentions=True)
        before = [matrix.dense().clone() for matrix in first.attentions]
        past = first.past_key_values
        for step in range(3):
            past = ours(tokens(1, 1, seed=step), past_key_values=past, use_cache=True).past_key_values
        past.reset()
        after = [matrix.dense() for matrix in first.attentions]
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)


@compiles
@pytest.mark.parametrize("name", ["llama", pytest.param("mistral", marks=pytest.mark.slow)])
def test_compiled_decoding(name: str) -> None:
    """With a static cache, generate() makes the masks first and passes them to the compiled model."""
    ours, eager = pair(DECODERS[name])
    compiling = CompileConfig(backend="eager", mode=None, fullgraph=True, dynamic=None)
    compiling._compile_all_devices = True
    options = {"do_sample": False, "cache_implementation": "static"}
    expected = generated(eager, name, **options)
    assert torch.equal(generated(ours, name, **options, compile_config=compiling), expected)


def test_prefill_in_chunks_equals_eager() -> None:
    ours, eager = pair(DECODERS["mistral"])
    logits = []
    for model in (ours, eager):
        past, parts = None, []
        with torch.no_grad():
            for part in tokens(2, 12).split(5, dim=1):
                output = model(part, past_key_values=past, use_cache=True)
                past = output.past_key_values
                parts.append(output.logits)
        logits.append(torch.cat(parts, 1))
    assert_equal(*logits)


def test_continuous_batching_is_refused() -> None:
    from sightline.huggingface import sightline_attention

    q = torch.randn(1, 2, 3, 4)
    with pytest.raises(NotImplementedError, match=r"paged caches.*model.generate"):
        sightline_attention(torch.nn.Module(), q, q, q, None, cache=object())
