"""The models that come with Sightline answer, say where they come from, and are small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")

import sightline
from sightline.cli import main
from sightline.tasks.box import box_folder, boxed

SHIPPED = [
    "generation",
    "image-classification",
    "sentiment",
    "speech-recognition",
    "summarization",
    "translation",
]


def test_they_are_there_and_small():
    assert boxed() == SHIPPED
    files = [path for task in SHIPPED for path in box_folder(task).iterdir()]
    assert sum(path.stat().st_size for path in files) <= 60e6
    assert not [path.name for path in files if path.name.startswith((".", "checkpoint"))]


@pytest.mark.parametrize("task", SHIPPED)
def test_each_has_a_card_and_a_log(task):
    card = (box_folder(task) / "README.md").read_text(encoding="utf-8")
    assert "- licence: " in card and "licence: not given" not in card and "- seed: " in card
    assert "validation, " in card
    assert "/tmp" not in card and "/home" not in card
    log = [json.loads(line) for line in (box_folder(task) / "log.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in log] == list(range(1, len(log) + 1))
    assert log[-1].get("cpu_seconds", 0) < 4 * 60 * 60, "two hours on two cores"


def test_sentiment():
    classify = sightline.pipeline("sentiment")
    found = classify(["a warm , funny and touching film", "a dull and tedious mess"])
    assert [each["label"] for each in found] == ["pos", "neg"]
    assert all(0.5 < each["score"] <= 1 for each in found)


@pytest.mark.parametrize(("lines", "least"), [("turning-test", 20), ("turning-varied", 18)])
def test_sentiment_of_lines_that_turn(lines, least):
    rows = [row.split("\t") for row in Path(f"examples/{lines}.tsv").read_text(encoding="utf-8").splitlines()]
    classify = sightline.pipeline("sentiment")
    assert len(rows) == 20
    assert sum(classify(text)[0]["label"] == label for text, label in rows) >= least


def test_translation_and_its_look(tmp_path, capsys):
    translate = sightline.pipeline("translation")
    found = translate(["Where is my book?", "I love you."])
    assert found[0]["translation_text"] == "Wo ist mein Buch?"
    assert "liebe" in found[1]["translation_text"]
    out = tmp_path / "look.json"
    assert main(["look", "The cat sat on the mat.", "--json", str(out)]) == 0
    assert "Katze" in out.read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    assert "cat" in shown


def test_summaries():
    """One line about a piece of software, in its own words and without a word twice in a row."""
    summarize = sightline.pipeline("summarization")
    texts = [
        "Potplant is a small program that reminds you to water your plants. It reads the soil moisture from a "
        "sensor at the serial port and shows a notification on the desktop when a plant is thirsty.",
        "This package contains the development files, headers and static libraries of libquux, a library for "
        "reading and writing QUUX images.",
    ]
    found = [each["summary_text"] for each in summarize(texts)]
    assert all(2 <= len(line.split()) <= 16 for line in found)
    assert "plant" in found[0].lower() and "development" in found[1].lower()
    assert not any(re.search(r"\b(\w+) \1\b", line) for line in found)


def test_language():
    goes_on = sightline.pipeline("generation")
    begun = "Prince Andrew looked at"
    text = goes_on(begun, new_tokens=40)[0]["generated_text"]
    assert text.startswith(begun) and len(goes_on.task.tokenizer.encode(text[len(begun) :]).ids) == 40
    letters = [each for each in text if each.isalpha() or each in " ,.;'“”’\n"]
    assert len(letters) > 0.9 * len(text)


def test_the_language_model_finds_what_it_read_a_thousand_tokens_ago():
    """A passage that comes again is predicted by looking at it, though the model knows none of it by heart."""
    goes_on = sightline.pipeline("generation")
    model, tokenizer = goes_on.model.eval(), goes_on.task.tokenizer
    ids = tokenizer.encode(Path("examples/first-epilogue.txt").read_text(encoding="utf-8")).ids[:1100]
    with torch.no_grad():
        logits, matrices = model(torch.tensor([ids + ids]), return_matrices=True)
    losses = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(ids + ids)[1:], reduction="none")
    assert losses[len(ids) :].mean() < 0.5 * losses[: len(ids)].mean()
    queries = torch.arange(len(ids), 2 * len(ids) - 1, 10)
    after = queries - len(ids) + 1  # what followed the same token before
    heads = torch.stack([A[0, :, q, k] for A in matrices for q, k in zip(queries, after, strict=True)])
    assert heads.view(len(matrices), len(queries), -1).mean(1).max() > 0.3


def test_an_image():
    from PIL import Image, ImageDraw

    # Trousers: two legs that part below the waist.
    image = Image.new("L", (28, 28))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 1, 19, 8), fill=200)
    draw.rectangle((8, 8, 12, 27), fill=200)
    draw.rectangle((15, 8, 19, 27), fill=200)
    found = sightline.pipeline("image-classification")(image)
    assert found[0]["label"] == "Trouser" and len(found) == 5


def test_speech_answers_at_any_rate(tmp_path):
    import soundfile

    hear = sightline.pipeline("speech-recognition")
    torch.manual_seed(0)
    path = tmp_path / "noise.wav"
    soundfile.write(path, (0.01 * torch.randn(22_050)).numpy(), 22_050)
    found = hear(str(path))
    assert set(found) == {"text"} and isinstance(found["text"], str)
