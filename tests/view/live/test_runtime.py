"""The page's runtime gives what Python gives: logits, weights, the residual stream, and the words that are written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
)
from sightline.view.live.supported import check_supported, settings_known
from tests.view.live.asking import answers, question

WITHIN = 1e-3
SIZE = {"width": 24, "heads": 4, "vocabulary": 41, "hidden": 40}
SOURCE = [7, 3, 40, 3, 12, 0, 25, 31, 3]
TARGET = [1, 30, 3, 3, 17, 22]

BODIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "post-norm": {"norm_first": False},
    "rms": {"norm": "rms", "norm_eps": 1e-3},
    "rms after": {"norm": "rms", "norm_first": False},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "relu": {"activation": "relu"},
    "silu": {"activation": "silu"},
    "swiglu": {"activation": "swiglu", "bias": False},
    "geglu": {"activation": "geglu"},
    "no biases": {"bias": False},
    "sinusoidal": {"positions": "sinusoidal"},
    "halves": {"positions": "sinusoidal-halves"},
    "rotary": {"positions": "rotary", "kv_heads": 2},
    "alibi": {"positions": "alibi", "kv_heads": 1},
    "alibi of three heads": {"positions": "alibi", "heads": 3},
    "relative": {"positions": "relative"},
    "no positions": {"positions": "none"},
    "window": {"window": 2, "positions": "rotary", "rotary_share": 0.5, "global_every": 2},
    "narrow window": {"window": 1, "positions": "alibi"},
    "embedding": {"embedding_norm": True, "embedding_scale": True},
    "untied": {"tied": False},
    "odd vocabulary": {"vocabulary": 43, "hidden": 41, "width": 20},
}
ENDS: dict[str, Any] = {
    "hidden states": EncoderConfig(**SIZE, layers=1),
    "masked token": EncoderConfig(**SIZE, layers=1, head="masked-token"),
    "masked token, untied": EncoderConfig(
        **SIZE, layers=1, head="masked-token", tied=False, activation="relu"
    ),
    "classes": EncoderConfig(**SIZE, layers=1, head="classification", classes=3),
    "classes by the first": EncoderConfig(
        **SIZE, layers=1, head="classification", classes=3, pooling="first", pooler=True
    ),
    "classes of tokens": EncoderConfig(**SIZE, layers=1, head="token-classification", classes=3),
    "segments": EncoderConfig(**SIZE, layers=1, segments=2),
    "head bias": DecoderConfig(**SIZE, layers=1, head_bias=True),
    "head bias, untied": EncoderDecoderConfig(**SIZE, layers=1, head_bias=True, tied=False),
    "copying": EncoderDecoderConfig(**SIZE, layers=1, copying=True),
    "another depth": EncoderDecoderConfig(**SIZE, layers=1, decoder_layers=3),
}


def made(config: Any) -> Any:
    """A random model whose attention is far from uniform, and whose biases are not 0."""
    torch.manual_seed(3)
    kind = {EncoderConfig: Encoder, DecoderConfig: Decoder, EncoderDecoderConfig: EncoderDecoder}[
        type(config)
    ]
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.25 * torch.randn_like(parameter)
    return model


def ids(listed: list[int]) -> torch.Tensor:
    return torch.tensor([listed])


def sides(model: Any) -> dict[str, Any]:
    source = None if isinstance(model, Decoder) else SOURCE
    return {"source": source, "target": None if isinstance(model, Encoder) else TARGET}


def expected(model: Any, source: list[int] | None, target: list[int] | None) -> tuple[Any, dict[str, Any]]:
    """Logits, and the weights of each call by the module's name."""
    inputs = [ids(each) for each in (source, target) if each is not None]
    with torch.no_grad():
        logits, matrices = model(*inputs, return_matrices=True)
    if not isinstance(model, EncoderDecoder):
        stack = "encoder" if isinstance(model, Encoder) else "decoder"
        return logits, {f"{stack}.blocks.{at}.self_attention": A for at, A in enumerate(matrices)}
    named = {f"encoder.blocks.{at}.self_attention": A for at, A in enumerate(matrices.encoder)}
    named |= {f"decoder.blocks.{at}.self_attention": A for at, A in enumerate(matrices.decoder)}
    return logits, named | {
        f"decoder.blocks.{at}.cross_attention": A for at, A in enumerate(matrices.cross_attention)
    }


def check(model: Any, got: dict[str, Any], source: list[int] | None, target: list[int] | None) -> None:
    logits, matrices = expected(model, source, target)
    near(got["logits"], logits)
    assert {call["name"] for call in got["calls"]} == set(matrices)
    for call in got["calls"]:
        near(call["weights"], matrices[call["name"]].dense())


def near(got: list[Any], wanted: torch.Tensor) -> None:
    torch.testing.assert_close(
        torch.tensor(got, dtype=wanted.dtype).view(wanted.shape), wanted, atol=WITHIN, rtol=0
    )


def test_every_configuration(tmp_path):
    both = [EncoderDecoderConfig(**(SIZE | {"layers": 2} | body)) for body in BODIES.values()]
    alone = [
        DecoderConfig(**(SIZE | {"layers": 1} | BODIES[name]))
        for name in ("post-norm", "window", "embedding")
    ]
    models = [made(config) for config in [*both, *alone, *ENDS.values()]]
    got = answers(tmp_path, [question(model, sides(model)) for model in models])
    for model, (answer,) in zip(models, got, strict=True):
        check(model, answer, **sides(model))


def test_distances_beyond_the_table(tmp_path):
    """T5's buckets widen, and from 128 on all distances share one."""
    long = [(7 * at * at + 3) % 41 for at in range(170)]
    models = [made(kind(**SIZE, layers=1, positions="relative")) for kind in (EncoderConfig, DecoderConfig)]
    asked = [{"source": long}, {"target": long}]
    got = answers(tmp_path, [question(*each) for each in zip(models, asked, strict=True)])
    for model, (answer,), ask in zip(models, got, asked, strict=True):
        check(model, answer, ask.get("source"), ask.get("target"))


def test_residual_stream(tmp_path):
    model = made(EncoderDecoderConfig(**SIZE, layers=2, norm_first=False))
    seen: dict[str, list[torch.Tensor]] = {"encoder": [], "decoder": []}
    for name, states in seen.items():
        for block in getattr(model, name).blocks:
            block.register_forward_hook(lambda _, given, out, states=states: states.append(out))
    ((answer,),) = answers(tmp_path, [question(model, sides(model))])
    with torch.no_grad():
        model(ids(SOURCE), ids(TARGET))
        first = model.embedding(ids(SOURCE)), model.target_embedding(ids(TARGET))
    for stack, enters in zip(seen, first, strict=True):
        assert len(answer["residual"][stack]) == 3
        for got, wanted in zip(answer["residual"][stack], [enters, *seen[stack]], strict=True):
            near(got, wanted)


SEARCHES = [
    {"newTokens": 12, "beams": 1, "lengthPenalty": 1.0},
    {"newTokens": 12, "beams": 4, "lengthPenalty": 1.0},
    {"newTokens": 9, "beams": 3, "lengthPenalty": 0.0},
    {"newTokens": 7, "beams": 5, "lengthPenalty": -0.5},
    {"newTokens": 1, "beams": 2, "lengthPenalty": 1.0},
    {"newTokens": 30, "beams": 1, "lengthPenalty": 1.0, "noRepeat": 1},
    {"newTokens": 12, "beams": 4, "lengthPenalty": 1.0, "noRepeat": 2},
    {"newTokens": 12, "beams": 3, "lengthPenalty": 0.8, "noRepeat": 3},
]


def generated(model: Any, options: dict[str, Any]) -> tuple[list[int], float]:
    chosen = {
        "new_tokens": options["newTokens"],
        "beams": options["beams"],
        "length_penalty": options["lengthPenalty"],
        "no_repeat": options.get("noRepeat"),
    }
    if isinstance(model, EncoderDecoder):
        written = model.generate(ids(SOURCE), prefix=ids(TARGET[1:]), **chosen)
    else:
        written = model.generate(ids(TARGET), **chosen)
    return written.lists()[0], float(written.scores[0])


def test_the_same_words(tmp_path):
    tokens = {"pad": 0, "start": 1, "end": 2}
    configs = [
        DecoderConfig(**SIZE, layers=2, positions="rotary", kv_heads=2, window=4, **tokens),
        DecoderConfig(**SIZE, layers=1, positions="relative"),
        EncoderDecoderConfig(**SIZE, layers=2, positions="sinusoidal", **tokens),
        EncoderDecoderConfig(**SIZE, layers=1, positions="learned", copying=True, **tokens),
        EncoderDecoderConfig(**SIZE, layers=2, positions="alibi", head_bias=True, start=1, end=2, pad=2),
    ]
    models = [made(config) for config in configs]
    asked = [[{**sides(model), "options": search} for search in SEARCHES] for model in models]
    got = answers(tmp_path, [question(model, *each) for model, each in zip(models, asked, strict=True)])
    for model, of_model in zip(models, got, strict=True):
        for search, answer in zip(SEARCHES, of_model, strict=True):
            tokens_written, score = generated(model, search)
            assert answer["ids"] == tokens_written, (model.config, search)
            assert answer["score"] == pytest.approx(score, abs=WITHIN)
            assert answer["heard"] >= len(tokens_written)


def test_a_search_that_ends_early(tmp_path):
    """Texts that end in between compete with longer ones, as in Python."""
    models = []
    for seed in range(12):
        model = made(DecoderConfig(**SIZE, layers=1, end=2, head_bias=True))
        with torch.no_grad():
            model.head.bias.copy_(torch.randn(41, generator=torch.Generator().manual_seed(seed)))
            model.head.bias[2] += 2.0 + 0.2 * seed
        models.append(model)
    search = {"newTokens": 20, "beams": 4, "lengthPenalty": 1.0}
    got = answers(tmp_path, [question(model, {"target": TARGET, "options": search}) for model in models])
    lengths = set()
    for model, (answer,) in zip(models, got, strict=True):
        tokens_written, score = generated(model, search)
        assert answer["ids"] == tokens_written
        assert answer["score"] == pytest.approx(score, abs=WITHIN)
        lengths.add(len(tokens_written))
    assert len(lengths) > 2


def test_every_word_of_a_setting_is_known():
    from sightline.view.live import supported

    for name, words in settings_known().items():
        assert set(words) == set(supported._WORDS[name]), name


def test_what_cannot_run_is_named():
    from sightline.common.errors import CommandError
    from sightline.models import VisionEncoder, VisionEncoderConfig

    vision = VisionEncoder(VisionEncoderConfig(width=8, heads=2, layers=1, image_size=8, patch_size=4))
    with pytest.raises(
        CommandError, match=r"Encoder, Decoder, EncoderDecoder\), and this is a VisionEncoder"
    ):
        check_supported(vision)
    model = made(DecoderConfig(**SIZE, layers=1))
    model.decoder.blocks[0].self_attention.query = torch.nn.Identity()
    with pytest.raises(
        CommandError, match=r"decoder\.blocks\.0\.self_attention\.query: a page cannot run a Ident"
    ):
        check_supported(model)
    odd = made(DecoderConfig(**SIZE, layers=1))
    object.__setattr__(odd.config, "positions", "spiral")
    with pytest.raises(CommandError, match="positions: a page cannot run 'spiral'; it runs learned, sin"):
        check_supported(odd)
