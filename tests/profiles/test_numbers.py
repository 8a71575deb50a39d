"""Every statistic equals a dense float64 computation, document by document, whatever is padded together."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

import sightline
from sightline.profile.statistics import STATISTICS
from view.conftest import make_model, make_tokenizer

from .conftest import texts

TEXTS = [*texts(11), "the"]


def weights_of(model, ids, target=None):
    """Dense weights [H,N,M] of each layer, by stack, of one document alone."""
    inputs = {"input_ids": torch.tensor([ids])}
    if target is not None:
        inputs["decoder_input_ids"] = torch.tensor([target])
    with torch.no_grad():
        out = model(**inputs, output_attentions=True)
    if target is None:
        return {"self": [layer[0] for layer in out.attentions]}
    names = {
        "encoder self": "encoder_attentions",
        "decoder self": "decoder_attentions",
        "cross": "cross_attentions",
    }
    return {stack: [layer[0] for layer in getattr(out, name)] for stack, name in names.items()}


def dense(name, w, causal):
    """One statistic [H] of dense weights [H,N,M]."""
    h, n, m = w.shape
    rows, cols = torch.arange(n)[:, None] + m - n, torch.arange(m)
    seen = (cols <= rows).sum(1) if causal else torch.full((n,), m)
    entropy = -torch.xlogy(w, w).sum(-1)
    share = w.sum(1) / w.sum((1, 2))[:, None]
    nothing = torch.full((h,), math.nan, dtype=w.dtype)
    if name == "entropy":
        return entropy.mean(-1)
    if name in ("entropy_normalized", "entropy_collapse"):
        found = (entropy / seen.clamp(min=2).log())[:, seen > 1]
        return (found if name == "entropy_normalized" else (found < 0.05).double()).mean(-1)
    if name == "max_weight":
        return w.amax(-1).mean(-1)
    if name == "top8_mass":
        return w.topk(min(8, m), -1).values.sum(-1).mean(-1)
    if name == "sink_mass":
        return w[..., 0].mean(-1)
    if name in ("previous_token", "next_token"):
        found = w.diagonal(-1 if name == "previous_token" else 1, 1, 2)
        return found.mean(-1) if n > 1 else nothing
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


# Those are compared with dense weights in tests of their own measures; here only that they come out.
ELSEWHERE = {"max_logit", "learned_sink_mass", "duplicate_token", "induction"}


@pytest.mark.parametrize("kind, batch", [("bert", 5), ("bert", 1), ("gpt2", 5), ("llama", 4), ("t5", 4)])
def test_against_dense_weights(model_folder, kind, batch):
    tokenizer = make_tokenizer(kind if kind in ("bert", "t5") else "plain")
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = sightline.profile(str(model_folder(kind)), TEXTS, batch=batch, measures=list(STATISTICS))
    assert found.info["documents"] == len(TEXTS) and found.info["tokens"] == sum(map(len, rows))
    model = make_model(kind).double().eval()
    model.set_attn_implementation("eager")
    per_document = [weights_of(model, ids, [0, *ids[:-1]] if kind == "t5" else None) for ids in rows]
    assert found.stacks == list(per_document[0])
    for stack in found.stacks:
        causal = stack == "decoder self" or kind in ("gpt2", "llama")
        for name in found.measures:
            if name in ELSEWHERE or (stack == "cross" and "cross" not in STATISTICS[name].kinds):
                continue
            wanted = torch.stack(
                [torch.stack([dense(name, w, causal) for w in one[stack]]) for one in per_document]
            )
            for statistic, expected in (
                ("mean", wanted.nanmean(0)),
                ("min", wanted.nan_to_num(math.inf).amin(0)),
                ("max", wanted.nan_to_num(-math.inf).amax(0)),
                ("count", (~wanted.isnan()).sum(0).double()),
            ):
                torch.testing.assert_close(
                    found.values(name, statistic, stack),
                    expected,
                    rtol=2e-4,
                    atol=2e-5,
                    msg=lambda text, at=(stack, name, statistic): f"{at}: {text}",
                )


def test_max_logit_is_that_of_the_scores(model_folder):
    found = sightline.profile(str(model_folder("bert")), TEXTS, measures=["max_logit"], batch=6)
    tokenizer = make_tokenizer("bert")
    model = make_model("bert").eval()
    wanted = []
    for text in TEXTS:
        with torch.no_grad(), sightline.trace(model) as trace:
            model(torch.tensor([tokenizer(text)["input_ids"]]))
        wanted.append(torch.stack([call.matrix.scores()[0].amax((1, 2)) for call in trace]))
    torch.testing.assert_close(
        found.values("max_logit", "max"), torch.stack(wanted).amax(0).double(), rtol=1e-4, atol=1e-4
    )


def test_learned_sinks_and_labels():
    config = transformers.GptOssConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GptOssModel(config).eval()
    documents = [torch.randint(1, 40, (length,)).tolist() for length in (3, 9, 9, 12)]
    found = sightline.profile(model, documents)
    assert "learned_sink_mass" in found.measures
    assert bool((found.values("learned_sink_mass") > 0).all())
    assert all(row.label and 0 < row.label_share <= 1 for row in found.rows)


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
