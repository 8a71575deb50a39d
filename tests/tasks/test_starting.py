"""Runs that start with a model that was trained before."""

import dataclasses

import pytest
import torch

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")
pytest.importorskip("rich", reason="tasks need the [app] extra")

from sightline.cli import main
from sightline.common.errors import CommandError
from sightline.models import Encoder, EncoderConfig
from sightline.tasks.fitting import fit
from sightline.tasks.pairs import Translation
from sightline.tasks.registry import load_task, save_task
from sightline.tasks.sentiment import Sentiment
from sightline.tasks.start_with import start_with
from sightline.tasks.starting import Start
from sightline.tasks.task import Source

PAIRS = [("a good film", "ein guter Film"), ("a bad film", "ein schlechter Film")] * 20
STILL = ["--set", "epochs=1", "--set", "rate=1e-12", "--set", "decay=0", "--set", "average=0"]


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """A small, untrained model of translation, as a run leaves it."""
    folder = tmp_path_factory.mktemp("start")
    rows = folder / "pairs.tsv"
    rows.write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    task = Translation()
    recipe = dataclasses.replace(Translation.recipe, width=16, heads=2, layers=1, hidden=24, vocabulary=90)
    task.read(Source(rows), recipe)
    torch.manual_seed(1)
    save_task(folder / "translator", task, task.build(recipe), recipe)
    return folder / "translator"


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "labelled.tsv"
    path.write_text("text\tlabel\n" + "a good film\tgood\na bad film\tbad\n" * 20)
    return path


def train(*arguments):
    return main([str(each) for each in ("train", "sentiment", *arguments)])


def test_body_and_tokenizer_come_from_another_task(translator, labelled, tmp_path):
    out = tmp_path / "model"
    assert train("--data", labelled, "--out", out, "--start", translator, *STILL) == 0
    before, source, _ = load_task(translator)
    task, model, recipe = load_task(out)
    assert (recipe.width, recipe.layers, recipe.hidden) == (16, 1, 24)
    assert model.config.positions == "sinusoidal" and model.config.embedding_scale
    assert model.config.head == "classification" and model.config.dropout == Sentiment.recipe.dropout
    ids = task.tokenizer.encode("a bad film").ids
    assert ids == before.tokenizer.encode("a bad film").ids
    given = torch.tensor([ids])
    torch.testing.assert_close(model.encoder(model.embedding(given)), source.encode(given))
    assert "trained further from translator" in (out / "README.md").read_text()


def test_a_start_decides_how_many_blocks_the_decoder_has(translator):
    task, _, recipe = load_task(translator)
    fewer = dataclasses.replace(recipe, layers=2, decoder_layers=1)
    start = Start("fewer", task.build(fewer), task.tokenizer, "")
    assert start.recipe(Translation.recipe).decoder_layers == 1
    start.check(start.recipe(Translation.recipe))
    with pytest.raises(CommandError, match="decoder_layers: 2, but fewer, with which the run starts, has 1"):
        start.check(dataclasses.replace(start.recipe(fewer), decoder_layers=2))
    assert start.given_to(task.build(fewer)).config.decoder_layers == 1
    assert not hasattr(start.recipe(Sentiment.recipe), "decoder_layers")


def test_a_run_goes_on_only_from_the_same_start(translator, labelled, tmp_path, monkeypatch):
    """Its checkpoint names the start; the same command without it, or with another, is another run."""
    out = tmp_path / "model"
    start = start_with(str(translator))
    monkeypatch.setattr("sightline.tasks.fitting.save_task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit("sentiment", Source(labelled), out, dataclasses.replace(start.recipe(Sentiment.recipe), epochs=1),
            start=start)  # fmt: skip
    recipe = dataclasses.replace(start.recipe(Sentiment.recipe), epochs=1)
    with pytest.raises(CommandError, match="is of a run with another start"):
        fit("sentiment", Source(labelled), out, recipe)
    monkeypatch.undo()
    assert fit("sentiment", Source(labelled), out, recipe, start=start)["validation"]["accuracy"] >= 0


def interrupted(*arguments):
    raise KeyboardInterrupt


def test_what_cannot_be_started_with_is_told(translator, labelled, tmp_path, capsys):
    assert train("--data", labelled, "--out", tmp_path / "a", "--start", tmp_path / "nowhere") == 1
    assert "nowhere', and no task of that name" in capsys.readouterr().err
    assert train("--data", labelled, "--out", tmp_path / "a", "--start", "image-classification") == 1
    assert (
        "--start image-classification: a model of image-classification reads no texts"
        in capsys.readouterr().err
    )
    assert train("--data", labelled, "--out", tmp_path / "a", "--start", translator, "--set", "width=32") == 1
    assert (
        "width: 32, but translator, with which the run starts, has 16; leave it out"
        in capsys.readouterr().err
    )
    start = start_with(str(translator))
    bidirectional = Encoder(EncoderConfig(width=16, heads=2, layers=1, vocabulary=7, segments=2))
    with pytest.raises(CommandError, match="cannot start with translator: embedding.segments.weight"):
        start.given_to(bidirectional)
