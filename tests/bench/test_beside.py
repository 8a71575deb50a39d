"""A model beside its twin of ``torch.nn``: the same function, the same gradients, and what a comparison says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.bench.beside import torch_twin
from sightline.bench.beside.pace import pace
from sightline.bench.beside.side import SIDES, SideJob, run_side
from sightline.bench.beside.side_by_side import SideBySide
from sightline.cli import main
from sightline.common.errors import CommandError
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    Model,
    SpeechEncoder,
    SpeechEncoderConfig,
    VisionEncoder,
    VisionEncoderConfig,
)
from sightline.tasks.registry import find_task
from sightline.tasks.task import Source
from sightline.tasks.training import Silent

LENGTHS = torch.tensor([9, 4, 1])
IDS = torch.randint(3, 40, (3, 9), generator=torch.Generator().manual_seed(1))
TARGET = torch.randint(3, 40, (3, 6), generator=torch.Generator().manual_seed(2))


SIZES: dict[str, Any] = {"width": 24, "heads": 3, "layers": 2, "hidden": 40}
TEXT: dict[str, Any] = {**SIZES, "vocabulary": 40}


CASES: dict[str, tuple[Callable[[], Model], Callable[[Any], Tensor]]] = {
    "encoder": (
        lambda: Encoder(EncoderConfig(**TEXT, head="classification", classes=3)),
        lambda model: model(IDS, lengths=LENGTHS),
    ),
    "post-norm encoder": (
        lambda: Encoder(
            EncoderConfig(**TEXT, norm_first=False, activation="relu", positions="none", norm_eps=1e-3)
        ),
        lambda model: model(IDS),
    ),
    "decoder": (
        lambda: Decoder(
            DecoderConfig(**TEXT, positions="learned", max_positions=16, window=16, activation="gelu_tanh")
        ),
        lambda model: model(IDS),
    ),
    "encoder-decoder": (
        lambda: EncoderDecoder(EncoderDecoderConfig(**TEXT, positions="sinusoidal", start=1, end=2, pad=0)),
        lambda model: model(IDS, model.shifted(TARGET), source_lengths=LENGTHS),
    ),
    "vision": (
        lambda: VisionEncoder(
            VisionEncoderConfig(
                **SIZES, image_size=8, patch_size=4, channels=1, head="classification", classes=3
            )
        ),
        lambda model: model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))),
    ),
    "speech": (
        lambda: SpeechEncoder(
            SpeechEncoderConfig(**TEXT, features=5, head="ctc", positions="sinusoidal", convolution=3)
        ),
        lambda model: model(
            torch.randn(3, 30, 5, generator=torch.Generator().manual_seed(4)), lengths=[30, 17, 4]
        ),
    ),
}


def _made(name: str) -> tuple[Any, Any, Callable[[Any], Tensor]]:
    """A model whose every weight counts, its twin, and what is asked of both."""
    torch.manual_seed(0)
    make, ask = CASES[name]
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter) + (parameter == 1))
    return model, torch_twin(model), ask


@pytest.mark.parametrize("name", CASES)
def test_the_twin_is_the_same_function_with_the_same_gradients(name: str) -> None:
    model, twin, ask = _made(name)
    assert any(isinstance(m, (nn.TransformerEncoder, nn.TransformerDecoder)) for m in twin.modules())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in twin.parameters())
    rows: Any = slice(None)
    if name == "speech":  # of ⌈T/4⌉ positions those that count
        rows = torch.arange(8) < model.output_lengths([30, 17, 4])[:, None]
    for training in (True, False):  # without training or gradients torch.nn takes a way of its own
        model.train(training)
        twin.train(training)
        with torch.set_grad_enabled(training):
            ours, theirs = ask(model)[rows], ask(twin)[rows]
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
        if training:
            weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(9))
            (ours * weights).sum().backward()
            (theirs * weights).sum().backward()
    gradients = dict(twin.named_parameters())
    for at, layers in _stacks(model):
        stack = twin.get_submodule(at).layers
        for block, layer in zip(layers.blocks, stack.layers, strict=True):
            attention = block.self_attention
            packed = [attention.query, attention.key, attention.value]
            expected = torch.cat([each.weight.grad for each in packed])
            torch.testing.assert_close(layer.self_attn.in_proj_weight.grad, expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                layer.linear1.weight.grad, block.feed_forward.input.weight.grad, rtol=1e-4, atol=1e-4
            )
    for path, parameter in model.named_parameters():  # embedding, head: what both have under one name
        if path in gradients:
            torch.testing.assert_close(gradients[path].grad, parameter.grad, rtol=1e-4, atol=1e-4)


def _stacks(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, child) for name, child in model.named_children() if hasattr(child, "blocks")]


def test_beams_write_the_same_without_a_cache_of_keys() -> None:
    model, twin, _ = _made("encoder-decoder")
    for beams in (1, 3):
        ours, theirs = (
            each.eval().generate(IDS, source_lengths=LENGTHS, new_tokens=7, beams=beams).lists()
            for each in (model, twin)
        )
        assert ours == theirs and any(ours)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "rotary"}, "positions: 'rotary', which torch.nn's layers do not have"),
        ({"norm": "rms"}, "norm: 'rms'"),
        ({"kv_heads": 1}, "kv_heads: 1"),
        ({"activation": "swiglu"}, "activation: 'swiglu'"),
        ({"window": 4}, "window: 4"),
        ({"bias": False}, "bias: False"),
    ],
)
def test_what_torch_does_not_have_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torch_twin(Decoder(DecoderConfig(**TEXT, **changes)))


def test_dropout_is_in_the_same_places() -> None:
    model = EncoderDecoder(EncoderDecoderConfig(**TEXT, dropout=0.25, attention_dropout=0.125, start=1))
    twin = torch_twin(model)
    for layer in twin.decoder.layers.layers:  # type: ignore[union-attr]
        inside = layer.dropout.p
        assert inside == 0.0 and layer.dropout1.p == layer.dropout2.p == layer.dropout3.p == 0.25
        assert layer.self_attn.dropout == layer.multihead_attn.dropout == 0.125
    assert type(twin.embedding.dropout) is nn.Dropout and twin.embedding.dropout.p == 0.25  # type: ignore[union-attr]


ROWS = [
    f"{how} {word}\t{label}"
    for how in ("very", "most", "rather", "so")
    for word, label in (("warm", "good"), ("funny", "good"), ("dull", "bad"), ("grim", "bad"))
] * 4


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("beside") / "reviews.tsv"
    path.write_text("\n".join(ROWS))
    return path


def _here(job: SideJob) -> dict[str, Any]:
    return run_side(job, Silent())


def test_both_sides_learn_the_same_where_nothing_is_drawn(reviews: Path) -> None:
    changes = ["width=16", "epochs=2", "batch=8", "dropout=0", "hide=0", "rate=1e-2"]
    recipe = find_task("sentiment").recipe.changed(changes)
    comparison = SideBySide("sentiment", Source(reviews, fold=(0, 4)), recipe, 1, _here)
    comparison.run(seeds=2)
    assert [run["order"] for run in comparison.runs] == [list(SIDES), list(SIDES)[::-1]]
    for run in comparison.runs:
        ours, theirs = (run[side] for side in SIDES)
        assert ours["start"] == pytest.approx(theirs["start"], abs=1e-5)
        assert ours["steps"] == theirs["steps"] == 2 * 6  # 48 of 64 rows train, but for 5 that validate
        assert ours["figures"]["test"]["loss"] == pytest.approx(theirs["figures"]["test"]["loss"], abs=1e-3)
        assert ours["examples"] == theirs["examples"] and ours["cpu_seconds"] > 0
    assert comparison.runs[0]["sightline"]["start"] != comparison.runs[1]["sightline"]["start"]
    summary = comparison.summary()
    assert {"validation accuracy", "test loss", "milliseconds a step", "tokens a second"} <= summary.keys()
    assert summary["test loss"]["standard_error"] is not None
    json.dumps(comparison.as_dict())


def test_positions_that_torch_lacks_are_replaced_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat.\n" * 30)
    recipe = find_task("generation").recipe.changed(
        ["width=16", "layers=1", "heads=2", "context=16", "epochs=1", "dropout=0"]
    )
    comparison = SideBySide("generation", Source(path), recipe, 1, _here)
    comparison.run(seeds=1)
    ours, theirs = (comparison.runs[0][side] for side in SIDES)
    assert ours["weights"] == theirs["weights"]
    assert ours["figures"]["validation"]["loss"] == pytest.approx(
        theirs["figures"]["validation"]["loss"], abs=1e-4
    )
    assert comparison.notes == [
        "positions: learned instead of rotary, which torch.nn does not have, on both sides"
    ]


def test_another_function_is_an_error(reviews: Path) -> None:
    def off(job: SideJob) -> dict[str, Any]:
        return {"start": 0.7 if job.side == "sightline" else 0.8}

    comparison = SideBySide("sentiment", Source(reviews), find_task("sentiment").recipe, 1, off)
    with pytest.raises(CommandError, match=r"first loss is 0\.7.* with Sightline and 0\.8.* not the same"):
        comparison.run(seeds=1)
    assert not comparison.runs


@pytest.mark.slow
def test_the_command_shows_and_writes(reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = reviews.parent / "found.json"
    small = [x for each in ("width=16", "epochs=1", "batch=32") for x in ("--set", each)]
    assert main(["beside", "sentiment", "--data", str(reviews), *small, "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "validation accuracy" in shown and "milliseconds a step" in shown and "±" in shown
    written = json.loads(out.read_text())
    assert written["complete"] and written["runs"][0]["torch.nn"]["steps"] == 2
    assert main(["beside", "sentiment", "--data", str(reviews), "--set", "speed=9"]) == 1
    assert "--set speed=9: expected NAME=VALUE" in capsys.readouterr().err
    missing = reviews.parent / "nothing.tsv"
    assert (
        main(["beside", "sentiment", "--data", str(missing)]) == 1
    )  # reported by the process of the first side
    assert "nothing.tsv" in capsys.readouterr().err
    assert main(["beside", "sentiment", "--data", str(reviews), "--json", str(out / "x.json")]) == 1


def test_steps_in_turn(reviews: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = find_task("sentiment").recipe.changed(["width=16", "batch=16"])
    figures = pace(SideJob("sentiment", Source(reviews), recipe, 1, SIDES[0], Path()), steps=7)
    assert [len(each) for each in figures["seconds"].values()] == [7, 7]  # of 4 batches, which come again
    ours, theirs = figures["seconds"].values()
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    assert figures["ratio"] == ratios[3] and figures["quartiles"] == [ratios[1], ratios[5]]
    assert (
        0 < figures["examples"] <= 7 * 16 and figures["tokens"] == 2 * figures["examples"]
    )  # two words a row
    out = reviews.parent / "steps.json"
    arguments = ["beside", "sentiment", "--data", str(reviews), "--set", "width=16", "--steps", "3"]
    assert main([*arguments, "--json", str(out)]) == 0
    assert "3 steps of each in turn" in capsys.readouterr().out
    assert json.loads(out.read_text())["machine"]["torch"] == torch.__version__
