"""A tiny model, a corpus of its words, and the same numbers from dense float64 weights."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="profiles of texts need the [app] extra")

from view.conftest import WORDS, model_folder, sightline_command  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 30 words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS[:8], k=draw.randint(1, 30))) for _ in range(count)]


def corpus_in(folder: Path) -> Path:
    """40 documents, a line each, with some blank lines between."""
    path = folder / "corpus.txt"
    path.write_text("\n\n".join(texts(20)) + "\n" + "\n".join(texts(20, 1)))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """See corpus_in."""
    return corpus_in(tmp_path)


@pytest.fixture
def run(sightline_command, model_folder, tmp_path):  # noqa: F811
    """Runs ``sightline profile MODEL ARGUMENTS`` with a tiny model."""

    def command(*arguments: object, model: str = "bert"):
        return sightline_command("profile", model_folder(model), *arguments)

    return command
