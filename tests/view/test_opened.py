"""look and serve read with models that ``sightline train`` made."""

from __future__ import annotations

import json

import pytest
import torch

from sightline.commands.opening import open_model
from sightline.common.errors import CommandError
from sightline.tasks.language import Language
from sightline.tasks.pairs import Translation
from sightline.tasks.registry import save_task
from sightline.tasks.sentiment import Sentiment
from sightline.tasks.tokenizing import train_characters, train_pieces, train_words

TEXT = "one two three"
SMALL = ["width=16", "layers=2", "heads=2", "context=8", "dropout=0"]


@pytest.fixture(params=["translation", "sentiment", "generation"])
def folder(request, tmp_path):
    """A fresh model of a task; nothing of it was trained but the tokenizer."""
    torch.manual_seed(0)
    kind = {"translation": Translation, "sentiment": Sentiment, "generation": Language}[request.param]
    task = kind()
    texts = ["one two three four five six seven eight nine ten"] * 5
    make = {
        "translation": lambda: train_pieces(texts, 60),
        "sentiment": lambda: train_words(texts, 60),
        "generation": lambda: train_characters(texts[0]),
    }
    task.tokenizer, task.labels = make[request.param](), ["bad", "good"]
    recipe = kind.recipe.changed(SMALL)
    path = tmp_path / request.param
    save_task(path, task, task.build(recipe), recipe)
    return path


def test_weights_are_those_of_the_model(folder):
    opened = open_model(str(folder))
    reading = opened.read(TEXT)
    names = [section.name for section in reading.sections]
    assert names == (["encoder", "decoder", "cross"] if opened.encoder_decoder else names[:1])
    task, model = opened.task, opened.model
    ids = task.tokenizer.encode(TEXT).ids
    if opened.encoder_decoder:
        source = [*ids, model.config.end]
        target = model.generate(torch.tensor([source]), new_tokens=8, beams=4).lists()[0]
        given = torch.tensor([source]), torch.tensor([[model.config.start, *target]])
    else:
        given = (torch.tensor([ids]),)
    with torch.no_grad():
        found = model(*given, return_matrices=True)[1]
    every = list(found) if opened.encoder_decoder else [found]
    for section, matrices in zip(reading.sections, every, strict=True):
        assert section.is_causal == (section.name == "decoder")
        for ours, theirs in zip(section.layers, matrices, strict=True):
            torch.testing.assert_close(ours.to_dense(), theirs.to_dense())
    assert "".join(token.text for token in reading.sections[0].queries).startswith(
        "o" if folder.name == "generation" else "one"
    )


def test_long_texts_and_targets(folder, sightline_command, tmp_path):
    text, out = "one two three four five six seven eight", tmp_path / "out.json"
    ran = sightline_command("look", text, "--model", folder, "--json", out)
    assert ran.code == 0, ran.err
    told = json.loads(out.read_text())
    shown = json.dumps(told)
    if folder.name == "translation":
        assert "the model's limit is 7: the last " in shown and "the model wrote one itself" in shown
        pair = sightline_command("look", "one two", "three", "--model", folder, "--json", out)
        assert pair.code == 0 and "wrote" not in json.dumps(json.loads(out.read_text()))
        return
    # A language model reads on: only --max-tokens cuts its text.
    assert "dropped" not in shown
    if folder.name == "generation":
        assert len(open_model(str(folder)).read(text).sections[0].queries) == len(text) > 8
    cut = sightline_command("look", text, "--model", folder, "--max-tokens", 3, "--json", out)
    assert cut.code == 0 and "--max-tokens is 3: the last" in out.read_text()
    refused = sightline_command("look", "one", "two", "--model", folder)
    assert refused.code == 1 and "reads one text; leave out the second" in refused.err


@pytest.mark.parametrize("folder", ["sentiment"], indirect=True)
def test_a_text_without_tokens(folder):
    with pytest.raises(CommandError, match="no token that the model knows"):
        open_model(str(folder)).read(" ")
