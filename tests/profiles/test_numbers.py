"""Every statistic equals a dense float64 computation, document by document, whatever is padded together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
import transformers

import sightline
from sightline.profiling.run import is_labelled
from sightline.profiling.statistics import STATISTICS
from view.conftest import make_model, make_tokenizer

from .conftest import texts

TEXTS = [*texts(7), "the"]


@dataclass(frozen=True)
class Dense:
    """What a layer did with one document: weights [H,N,M], the scores that the softmax saw, the ids it read."""

    weights: torch.Tensor
    scores: torch.Tensor
    ids: torch.Tensor


def dense_layers(model, ids, target=None):
    """Each layer's :class:`Dense`, by stack, of one document alone."""
    inputs = {"input_ids": torch.tensor([ids])}
    if target is not None:
        inputs["decoder_input_ids"] = torch.tensor([target])
    scores, softmax = [], torch.nn.functional.softmax

    def noted(given, *arguments, **options):
        if given.dim() == 4:  # a router of experts has one, too
            scores.append(given[0])
        return softmax(given, *arguments, **options)

    with torch.no_grad(), mock.patch.object(torch.nn.functional, "softmax", noted):
        out = model(**inputs, output_attentions=True)
    own, other = torch.tensor(ids), None if target is None else torch.tensor(target)
    if target is None:
        stacks = {"self": (out.attentions, scores, own)}
    else:  # the encoder's layers first, then the decoder's, each looking at itself and at the encoder
        depth = len(out.encoder_attentions)
        stacks = {
            "encoder self": (out.encoder_attentions, scores[:depth], own),
            "decoder self": (out.decoder_attentions, scores[depth::2], other),
            "cross": (out.cross_attentions, scores[depth + 1 :: 2], None),
        }
    return {
        stack: [Dense(w[0], s, which) for w, s in zip(layers, theirs, strict=True)]
        for stack, (layers, theirs, which) in stacks.items()
    }


def dense(name, one, causal):
    """One statistic [H] of a layer's dense weights and scores."""
    w = one.weights
    h, n, m = w.shape
    rows, cols = torch.arange(n)[:, None] + m - n, torch.arange(m)
    seen = (cols <= rows).sum(1) if causal else torch.full((n,), m)
    entropy = -torch.xlogy(w, w).sum(-1)
    share = w.sum(1) / w.sum((1, 2))[:, None]
    nothing = torch.full((h,), math.nan, dtype=w.dtype)
    if name == "entropy":
        return entropy.mean(-1)
    if name in ("entropy_normalized", "entropy_collapse"):
        shares = (entropy / seen.clamp(min=2).log())[:, seen > 1]
        return (shares if name == "entropy_normalized" else (shares < 0.05).double()).mean(-1)
    if name == "max_logit":
        return one.scores[..., :m].amax((1, 2))
    if name == "learned_sink_mass":
        return 1 - w.sum(-1).mean(-1)
    if name in ("duplicate_token", "induction"):
        before = one.ids if name == "duplicate_token" else torch.cat((torch.tensor([-1]), one.ids[:-1]))
        match = (cols < rows) & (before == one.ids[:, None])
        return (w * match).sum(-1)[:, match.any(-1)].mean(-1) if match.any() else nothing
    if name == "max_weight":
        return w.amax(-1).mean(-1)
    if name == "top8_mass":
        return w.topk(min(8, m), -1).values.sum(-1).mean(-1)
    if name == "sink_mass":
        return w[..., 0].mean(-1)
    if name in ("previous_token", "next_token"):
        neighbours = w.diagonal(-1 if name == "previous_token" else 1, 1, 2)
        return neighbours.mean(-1) if n > 1 else nothing
    if name == "local_mass":
        return (w * ((rows - cols).abs() <= 5)).sum(-1).mean(-1)
    apart = (rows - cols).abs().double()
    if name == "attention_distance":
        return (w * apart).sum(-1).mean(-1)
    if name == "diagonality":
        far = torch.where(
            (cols <= rows) if causal else torch.ones_like(apart, dtype=torch.bool), apart, 0.0
        ).amax(-1)
        return (1 - (w * apart).sum(-1) / far.clamp(min=1)).mean(-1)
    if name == "received_max":
        return share.amax(-1)
    if name == "received_entropy":
        return -torch.xlogy(share, share).sum(-1) / math.log(m) if m > 1 else nothing
    if name == "received_gini":
        pairs = (share[:, :, None] - share[:, None, :]).abs().sum((1, 2))
        return pairs / (2 * m * share.sum(-1))
    raise KeyError(name)


def assert_dense(profile, per_document, causal_stacks):
    """Every mean, extreme and count of a profile is that of the documents' dense numbers."""
    assert profile.stacks == list(per_document[0])
    for stack, name in itertools.product(profile.stacks, profile.measures):
        if stack == "cross" and "cross" not in STATISTICS[name].kinds:
            continue
        wanted = torch.stack(
            [torch.stack([dense(name, one, stack in causal_stacks) for one in layers[stack]])
             for layers in per_document]
        ).double()  # fmt: skip
        for statistic, expected in (
            ("mean", wanted.nanmean(0)),
            ("min", wanted.nan_to_num(math.inf).amin(0)),
            ("max", wanted.nan_to_num(-math.inf).amax(0)),
            ("count", (~wanted.isnan()).sum(0).double()),
        ):
            torch.testing.assert_close(
                profile.values(name, statistic, stack),
                expected,
                rtol=2e-4,
                atol=2e-5,
                msg=lambda text, at=(stack, name, statistic): f"{at}: {text}",
            )


@pytest.mark.parametrize(
    "kind, batch",
    [
        ("bert", 5),
        ("llama", 4),
        ("t5", 4),
        pytest.param("bert", 1, marks=pytest.mark.slow),
        pytest.param("gpt2", 5, marks=pytest.mark.slow),
    ],
)
def test_against_dense_weights(model_folder, kind, batch):
    tokenizer = make_tokenizer(kind if kind in ("bert", "t5") else "plain")
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    profile = sightline.profile(str(model_folder(kind)), TEXTS, batch=batch, measures=list(STATISTICS))
    assert profile.info["documents"] == len(TEXTS) and profile.info["tokens"] == sum(map(len, rows))
    assert set(profile.measures) == set(STATISTICS) - {"learned_sink_mass"}
    model = make_model(kind).double().eval()
    model.set_attn_implementation("eager")
    per_document = [dense_layers(model, ids, [0, *ids[:-1]] if kind == "t5" else None) for ids in rows]
    assert_dense(profile, per_document, ["decoder self"] if kind == "t5" else ["self"] * (kind != "bert"))


def test_learned_sinks_and_labels():
    config = transformers.GptOssConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GptOssModel(config).eval()
    documents = [torch.randint(1, 40, (length,)).tolist() for length in (3, 9, 9, 12)]
    profile = sightline.profile(model, documents, measures=["sink_mass", "learned_sink_mass"], labels=True)
    assert profile.measures == ["sink_mass", "learned_sink_mass"]
    assert all(row.label and 0 < row.label_share <= 1 for row in profile.rows)
    assert not any(row.label for row in sightline.profile(model, documents, measures=["entropy"]).rows)
    exact = model.double()
    exact.set_attn_implementation("eager")
    exact.set_experts_implementation("eager")  # the grouped product takes no float64
    assert_dense(profile, [dense_layers(exact, ids) for ids in documents], ["self"])


def test_few_units_are_labelled():
    assert [unit for unit in range(50) if is_labelled(unit)] == [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48,
    ]  # fmt: skip
    assert sum(map(is_labelled, range(15_625))) == 52


def test_any_model(tmp_path):
    layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
    embed = torch.nn.Embedding(50, 16)
    model = torch.nn.Sequential(embed, layer)

    def call(ids, real):
        return layer(embed(ids), src_key_padding_mask=None if real is None else ~real)

    documents = [torch.randint(0, 50, (n,)).tolist() for n in (3, 4, 4, 9, 10)]
    together = sightline.profile(model, documents, run=call, batch=4)
    alone = sightline.profile(model, documents, run=call, batch=1)
    for name in together.measures:
        torch.testing.assert_close(together.values(name), alone.values(name), rtol=1e-4, atol=1e-5)
