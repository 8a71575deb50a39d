"""The terminal view: plain and stable in a pipe, shaded for a person, never a wall of text."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from sightline.huggingface.load import load_model
from sightline.measure.sources import CAVEAT
from sightline.reading.published import read
from sightline.view.summary import Selection, summarize
from sightline.view.terminal import render

from .test_numbers import TEXT


def test_plain_output_has_every_number(look, look_json):
    options = ("--layer", 1, "--head", 2, "--query", "cat", "--top", 3)
    ran = look(TEXT, *options)
    found = look_json(TEXT, *options)
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert CAVEAT in ran.out
    assert re.search(r"^query    cat\(#2\) \(as asked\)$", ran.out, re.MULTILINE)
    for top in found["choice"]["top"]:
        assert re.search(rf"^ +\d +{top['weight']:.4f} +{top['key']}  ", ran.out, re.MULTILINE)
    for pair in found["pairs"]:
        assert re.search(
            rf"^ +{pair['weight']:.4f} +1 +2  .*#{pair['query']}\) +.*#{pair['key']}\)", ran.out, re.M
        )
    for layer in found["layers"]:
        for name in ("entropy_mean", "distance_mean"):
            numbers = " +".join(f"{head[name]:.3f}" for head in layer["heads"])
            assert re.search(rf"^ +{layer['layer']} +{numbers}$", ran.out, re.MULTILINE)
    assert "special tokens ([CLS], [SEP]) take" in ran.out and "--special includes them" in ran.out


def test_columns_stay_where_they_are(look):
    first, second = look(TEXT).out.splitlines(), look("the dog saw a mat").out.splitlines()
    for heading in ("rank   weight  index  key", "layer ", "  weight layer head  query"):
        assert any(line.startswith(heading) for line in first)
        assert any(line.startswith(heading) for line in second)


@pytest.mark.slow  # a process of its own, which imports everything
def test_standard_input_through_a_pipe(model_folder):
    done = subprocess.run(
        [sys.executable, "-m", "sightline", "look", "-", "--model", str(model_folder("bert"))],
        input="The cat sat, unbelievable.",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "tokens" in done.stdout.splitlines()[1]


def test_words_of_standard_input(look, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The cat sat, unbelievable.")))
    ran = look("-", "--words")
    assert ran.code == 0 and ran.err == "" and "\x1b" not in ran.out
    assert "words" in ran.out.splitlines()[1]


def test_text_file(look, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\ufeffthe dog saw", encoding="utf-8")
    assert "5 queries, 5 keys" in look(path).out


def rendered(model_folder, text, width=100, **selection):
    summary = summarize(read(load_model(str(model_folder("bert"))), text), Selection(**selection))
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=width)
    console.print(render(summary, width))
    return console.file.getvalue()


def test_shades_for_a_person(model_folder):
    out = rendered(model_folder, TEXT, query="cat")
    assert re.search(r"\x1b\[1;4[^m]*m?cat|\x1b\[1;4;[\d;]*mcat", out), "the query is marked"
    assert "48;2;" in out, "tokens have backgrounds"
    assert "Jain & Wallace 2019" in out


def test_a_narrow_terminal(model_folder):
    plain = re.sub(r"\x1b\[[\d;]*m", "", rendered(model_folder, TEXT, width=60))
    assert max(map(len, plain.splitlines())) <= 60


def test_a_long_text_is_not_a_wall(model_folder, monkeypatch):
    from sightline.view import terminal

    monkeypatch.setattr(terminal, "_SHORT", 10)
    monkeypatch.setattr(terminal, "_AROUND", 2)
    out = rendered(model_folder, " ".join(["the cat sat on a mat ,"] * 5), query="#20", top=2)
    assert re.search(r"… \d+ more|… \d+ …", out)


def test_too_long_a_text_says_what_was_dropped(look):
    out = look(" ".join(["cat"] * 60)).out
    assert "the text has 62 tokens; the model's limit is 48: the last 14 were dropped" in out
    out = look(" ".join(["cat"] * 60), "--max-tokens", 10).out
    assert "the text has 62 tokens; --max-tokens is 10: the last 52 were dropped" in out


def test_relative_positions_take_any_length(look):
    out = look(" ".join(["cat"] * 600), "a dog", "--section", "encoder", model="t5").out
    assert "601 queries" in out and "dropped" not in out


def test_a_query_that_occurs_twice(look):
    out = look("the cat sat on the mat", "--query", "the").out
    assert "query    the(#1) (the first of 2 times it occurs; also #5)" in out


def test_a_query_of_several_tokens(look):
    out = look(TEXT, "--query", "unbelievable").out
    assert "'unbelievable' is 3 tokens, #8 to #10: the first is shown; --words merges" in out


def test_choices_are_explained(look):
    out = look(TEXT).out
    assert "looks most selectively at tokens beyond neighbours; --layer and --head choose another" in out
    assert "chosen: the most selective token of this head; --query chooses another" in out


def test_one_token(look):
    out = look("cat", model="gpt2").out
    assert "1 queries, 1 keys" in out and "1.0000" in out


def test_sixteen_colours_get_emphasis_instead(model_folder):
    summary = summarize(read(load_model(str(model_folder("bert"))), TEXT), Selection(query="cat"))
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=100)
    console.print(render(summary, 100, colours=False))
    out = console.file.getvalue()
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3|4)[0-8]m", out.replace("\x1b[33m", "")), (
        "no colours that mislead"
    )
    assert re.search(r"\x1b\[1;7m\w", out), "the strongest key is reversed"
