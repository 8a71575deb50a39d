"""``sightline effects``, and pipelines as what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="models of texts need the [app] extra")

import sightline
from sightline.common.errors import CommandError
from sightline.reading.questions import HeadedModel
from view.conftest import make_tokenizer, model_folder, sightline_command, transformers  # noqa: F401

TEXT = "A warm and funny film."
Run = Callable[..., Any]


def test_which_words_made_it_positive(sightline_command: Run, tmp_path: Path) -> None:  # noqa: F811
    path, plot = tmp_path / "effects.json", tmp_path / "effects.png"
    ran = sightline_command("effects", "sentiment", TEXT, "--json", path, "--plot", plot, "--top", 3)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("probability of 'pos': ")
    assert len(ran.out.splitlines()) == 6  # two lines above, three words, and the correlation
    assert "warm" in ran.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    read = json.loads(path.read_text())
    assert read["of"] == "tokens"
    assert read["complete"]
    assert read["baselines"][0] == pytest.approx(sightline.pipeline("sentiment")(TEXT)[0]["score"], abs=1e-5)
    again = sightline_command("effects", "sentiment", TEXT, "--json", path)
    first = [one.out.splitlines()[2].split() for one in (again, ran)]
    assert first[0] == first[1]


def test_what_a_command_refuses(sightline_command: Run, tmp_path: Path) -> None:  # noqa: F811
    for arguments, message in (
        (("sentiment", TEXT, "--of", "words"), "--of words: must be one of"),
        (("sentiment", TEXT, "--top", 0), "--top 0: at least 1"),
        (("sentiment", TEXT, "--target", "good"), "label 'good': there are neg, pos"),
        (("sentiment", TEXT, "--json", tmp_path / "no" / "x.json"), "does not exist"),
        (("sentiment", TEXT, "--plot", tmp_path / "x.gif"), "must end in"),
        (("sentiment", TEXT, "--of", "heads", "--how", "noise"), "how: there is no 'noise'"),
        (("nothing-of-that-name/", TEXT), "nothing-of-that-name"),
    ):
        ran = sightline_command("effects", *arguments)
        assert ran.code == 1
        assert message in ran.err
        assert ran.err.count("\n") == 1


def test_pipelines_of_other_tasks() -> None:
    writer = sightline.pipeline("generation")
    found = sightline.effects(writer, "It was a bright cold day", of="layers", progress=False)
    assert found.about.endswith("next")
    assert 0 < found.baseline < 1
    translator = sightline.pipeline("translation")
    words = sightline.effects(translator, "A dog runs.", of="tokens", progress=False)
    assert words.about.startswith("mean log-probability of")
    assert words.labels[1] == "▁dog"
    other = translator.question("A dog runs.", "Eine Katze schläft.")
    assert sightline.effects(other.model, other.inputs, other.metric, of="layers").baseline < words.baseline
    with pytest.raises(CommandError, match="has no answer that is a number"):
        sightline.effects(sightline.pipeline("speech-recognition"), "x.wav")
    with pytest.raises(ValueError, match="a pipeline has its own"):
        sightline.effects(writer, "It was", lambda logits: 0.0)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_published_models(kind: str, model_folder: Callable[[str], Path]) -> None:  # noqa: F811
    asked = HeadedModel(str(model_folder(kind))).question(
        "the cat saw a dog", "the dog" if kind == "t5" else None
    )
    found = sightline.effects(asked.model, asked.inputs, asked.metric, of="tokens", tokens=asked.tokens)
    assert found.labels[:2] == ["the", "cat"]
    assert found.complete
    with torch.no_grad():
        logits = asked.model(**asked.inputs).logits
    if kind == "gpt2":
        assert found.baseline == pytest.approx(float(logits[0, -1].softmax(-1).max()), rel=1e-4)
        # The last token looks at itself alone when nobody else may see it: nothing changes.
        assert abs(float(found.values[-1])) < 1e-6


def test_published_classifiers(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        num_labels=3, id2label={0: "bad", 1: "fair", 2: "good"}, label2id={"bad": 0, "fair": 1, "good": 2},
        initializer_range=0.7,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    make_tokenizer("bert").save_pretrained(tmp_path)
    model = HeadedModel(str(tmp_path))
    shares = []
    for label in ("bad", "fair", "good"):
        asked = model.question("the cat sat on the mat", label)
        assert asked.about == f"probability of '{label}'"
        found = sightline.effects(asked.model, asked.inputs, asked.metric, of="heads")
        shares.append(found.baseline)
    assert sum(shares) == pytest.approx(1)
    with pytest.raises(CommandError, match="label 'best': there are bad, fair, good"):
        model.question("the cat", "best")
