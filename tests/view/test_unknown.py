"""A text that the model does not know: said once, in plain words, wherever what it attends to is shown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sightline.reading.tokens import Token, tokens_of_strings
from sightline.reading.unknown import unknown_notices

ARABIC = "مرحبا بك cat"
SAID = "this model does not know 2 of 3 pieces of the text; it was trained on text in Latin letters"


def test_counted_by_hand():
    tokens = tokens_of_strings(["<s>", "▁", "<unk>", "▁", "<unk>", "▁cat", "</s>"])
    assert unknown_notices([("the text", tokens)]) == ("this model does not know 2 of 3 pieces of the text",)
    assert unknown_notices([("the source", tokens), ("the target", tokens[:3])]) == (
        "this model does not know 2 of 3 pieces of the source and 1 of 1 piece of the target",
    )
    assert unknown_notices([]) == unknown_notices([("the text", tokens[:2])]) == ()


def test_a_rare_word_is_no_news():
    known = [Token(at, "cat", False, at, True) for at in range(3)]
    assert unknown_notices([("the text", [*known, Token(3, "<unk>", True, 3, True, True)])]) == ()


@pytest.mark.parametrize(
    ("vocabulary", "letters"),
    [
        (["▁cat", "<unk>", "7"], "Latin"),
        (["кот", "cat", "Кот"], "Cyrillic and Latin"),
        (["猫", "ねこ", "cat"], "Latin, Japanese and Chinese"),
        (["x" * 200, "å", "λ"], "Latin"),
    ],
)
def test_letters_of_a_vocabulary(vocabulary, letters):
    unknown = [Token(0, "<unk>", True, 0, True, True)]
    (notice,) = unknown_notices([("the text", unknown)], vocabulary)
    assert notice.endswith(f"; it was trained on text in {letters} letters")


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_look_says_so(look, look_json, model):
    ran = look(ARABIC, model=model)
    assert ran.code == 0
    assert f"note     {SAID}" in ran.out.splitlines() and ran.out.count("does not know") == 1
    assert ran.err == f"sightline: {SAID}\n"
    assert SAID in look_json(ARABIC, model=model)["notices"]
    assert "does not know" not in look("the cat sat", model=model).out


def test_page_and_terminal(model_folder):
    from sightline.huggingface.load import load_model
    from sightline.reading.published import read
    from sightline.view.about import about
    from sightline.view.summary import Selection, summarize
    from sightline.view.terminal import render

    reading = read(load_model(str(model_folder("bert"))), ARABIC)
    assert about(reading, "x", "x")["notices"] == [SAID]
    console = Console(file=io.StringIO(), width=200)
    console.print(render(summarize(reading, Selection()), 200))
    assert console.file.getvalue().count(SAID) == 1


def test_source_and_target(model_folder):
    from sightline.huggingface.load import load_model
    from sightline.reading.published import read

    notices = read(load_model(str(model_folder("t5"))), ARABIC, "the cat sat").notices
    assert any("2 of 3 pieces of the source;" in notice for notice in notices)
    assert not any("target" in notice for notice in notices)


def test_boxed_models(sightline_command):
    ran = sightline_command("look", "--model", "sentiment", ARABIC)
    assert ran.out.count("this model does not know 2 of 3 pieces of the text") == 1
    ran = sightline_command("run", "sentiment", "a fine film", "你好", "مرحبا")
    assert ran.code == 0 and len(ran.out.splitlines()) == 3
    assert ran.err.strip().endswith("Latin letters (nor much of 1 more text)")
    assert ran.err.count("does not know") == 1
    assert "know" not in sightline_command("run", "sentiment", "a fine film").err
