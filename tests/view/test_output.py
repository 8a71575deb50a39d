"""What came out of a model, as the page tells it: what it wrote or was given, its label, the tokens it expects."""

from __future__ import annotations

import pytest
import torch

from sightline.commands.opening import open_model
from sightline.reading.output import likeliest
from sightline.view.about import about

SENTENCE = "The cat sat on the mat."


@pytest.fixture(scope="module")
def boxed():
    opened = {}

    def read(task, *texts):
        if task not in opened:
            opened[task] = open_model(task)
        return opened[task], opened[task].read(*texts)

    return read


def told(reading):
    return about(reading, "x", "x")["output"]


def test_a_translation_is_what_the_model_wrote(boxed):
    model, reading = boxed("translation", SENTENCE)
    [answer] = model.task.answers(model.model, [SENTENCE], model.recipe, {})
    expected = {"kind": "text", "name": "translation", "text": answer["translation_text"], "given": False}
    assert told(reading) == expected | {"choices": [], "after": ""}
    assert "no target given" in " ".join(reading.notices), "the terminal says so"
    assert about(reading, "x", "x")["notices"] == [], "the page shows it"


def test_a_translation_that_was_given(boxed):
    _, reading = boxed("translation", SENTENCE, "Die Katze saß.")
    assert told(reading)["given"] and told(reading)["text"] == "Die Katze saß."


def test_a_label_with_its_probability(boxed):
    model, reading = boxed("sentiment", "A wonderful film.")
    with torch.no_grad():
        [answer] = model.task.answers(model.model, ["A wonderful film."], model.recipe, {})
    output = told(reading)
    assert (output["kind"], output["text"]) == ("label", answer["label"])
    assert output["choices"][0]["probability"] == pytest.approx(answer["score"], abs=1e-5)
    assert sum(each["probability"] for each in output["choices"]) == pytest.approx(1, abs=1e-6)


def test_the_tokens_that_may_come_next(boxed):
    text = "To be, or not to"
    model, reading = boxed("generation", text)
    question = model.question(text)
    with torch.no_grad():
        logits = model.model(torch.tensor([model.task.tokenizer.encode(text).ids]))
    output = told(reading)
    assert output["text"].endswith("be") and output["kind"] == "next"
    assert output["choices"][0]["probability"] == pytest.approx(float(question.metric(logits)), abs=1e-5)
    shares = [each["probability"] for each in output["choices"]]
    assert shares == sorted(shares, reverse=True) and len(shares) == 5
    assert output["after"] == text
    ids = model.task.tokenizer.encode(whole := "To be, or not to be. " * 30 + "Nay").ids
    _, longer = boxed("generation", whole)
    assert len(ids) > 80 and told(longer)["after"] == "…" + model.task.tokenizer.decode(ids[-80:])


def test_few_choices_are_all_told():
    output = likeliest("label", "label", torch.tensor([0.25, 0.75]), ["no", "yes"])
    assert output.choices == (("yes", 0.75), ("no", 0.25)) and output.text == "yes"
    assert likeliest("next", "next token", torch.eye(9)[3]).text == "3"
