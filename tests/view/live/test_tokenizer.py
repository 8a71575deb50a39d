"""The page's tokenizer against Hugging Face's, whose ids, tokens and texts it must give."""

from __future__ import annotations

import json
import shutil
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from sightline.reading.tokens import tokens_of_strings
from sightline.tasks.box import box_folder, boxed
from sightline.tasks.tokenizing import train_bytes, train_characters, train_pieces, train_words
from view.live.lines import lines
from view.unicode_tables import FILE, rendered

SCRIPT = Path(__file__).parent / "tokenize.mjs"


@cache
def tokenizers() -> dict[str, Tokenizer]:
    """One of each kind, trained on lines of the same make."""
    texts = [line for line in lines(1500, seed=1) if len(line) < 2000]
    made = {
        "pieces": train_pieces(texts, 1500),
        "small letters": train_pieces(texts, 900, lowercase=True),
        "bytes": train_bytes(texts, 800),
        "words": train_words(texts, 2000),
        "characters": train_characters("\n".join(texts)),
    }
    return made


@cache
def boxed_ones() -> dict[str, Tokenizer]:
    """Those that come with Sightline."""
    paths = [box_folder(task) / "tokenizer.json" for task in boxed()]
    return {path.parent.name: Tokenizer.from_file(str(path)) for path in paths if path.exists()}


def in_node(some: dict[str, object], texts: list[str], labels: bool = False):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    given = json.dumps({"tokenizers": some, "lines": texts, "labels": labels})
    ran = subprocess.run(
        ["node", str(SCRIPT)], input=given, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def _is_assigned(character: str) -> bool:
    return unicodedata.category(character) != "Cn"


def check(texts: list[str], known: dict[str, Tokenizer]) -> None:
    found = in_node({name: json.loads(each.to_str()) for name, each in known.items()}, texts)
    for name, tokenizer in known.items():
        for text, answer in zip(texts, found[name], strict=True):
            encoded = tokenizer.encode(text)
            assert answer["ids"] == encoded.ids, (name, text)
            assert answer["tokens"] == encoded.tokens, (name, text)
            decoded = [tokenizer.decode(encoded.ids, skip_special_tokens=skip) for skip in (True, False)]
            assert answer["texts"] == decoded, (name, text)


def test_it_is_hugging_faces_on_a_thousand_lines():
    check(lines(1000), tokenizers())


@pytest.mark.slow
def test_it_is_hugging_faces_on_ten_thousand_lines():
    check(lines(10_000, seed=2), tokenizers() | boxed_ones())


def test_labels_and_words_are_those_of_python():
    # Labels write out what Unicode does not know, of which Python's version and node's differ.
    texts = [line for line in lines(120, seed=3) if len(line) < 2000 and all(map(_is_assigned, line))]
    known = tokenizers()
    found = in_node({name: json.loads(each.to_str()) for name, each in known.items()}, texts, labels=True)
    for name, tokenizer in known.items():
        for text, answer in zip(texts, found[name], strict=True):
            tokens = tokens_of_strings(tokenizer.encode(text).tokens)
            expected = {
                "texts": [token.text for token in tokens],
                "words": [token.word for token in tokens],
                "special": [token.special for token in tokens],
                "glued": [not token.space for token in tokens],
                "unknown": [token.unknown for token in tokens],
            }
            assert answer["labels"] == expected, (name, text)


@pytest.mark.slow
def test_the_tables_are_those_of_the_library():
    assert FILE.read_text() == rendered()
