"""What the page makes of a text that is typed equals what Python makes of it: words, tokens, numbers and labels."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.tasks.box import box_folder
from sightline.tasks.opened import TaskModel
from sightline.view.live import packed
from sightline.view.live.page import task_of
from sightline.view.report import page_meta
from sightline.view.summary import Selection, summarize
from sightline.view.tensors import TensorStore

SESSION = Path(__file__).parent / "session.mjs"
SENTENCES = (
    "A dog is sleeping under the old tree near the river today, isn't it?",
    "The cat sat on the mat.",
    "I don't know where Tom's keys are.",
    "He had 3 apples, 12 pears and no money.",
    "What time does the train to Berlin leave?",
    "She said she would come, but she did not.",
    "Grüße aus Köln!  Two  blanks.",
    "Zürich 北京 😀 unknown?",
    "no capital letters here",
    "Thanks.",
)
LONG = " ".join(["cat"] * 80)
FOREIGN = "日本語 日本語"
FILMS = (
    "a film that is a film , and a film that is not",
    "I expected more.",
    "Hardly a masterpiece, but not bad at all.",
)


@pytest.fixture(scope="module")
def opened():
    made: dict[str, TaskModel] = {}

    def of(task: str) -> TaskModel:
        if task not in made:
            made[task] = TaskModel(box_folder(task), task)
        return made[task]

    return of


def runs(
    folder: Path, opened: TaskModel, texts: list[str], like: Any = None, whole: bool = False
) -> list[Any]:
    """What the page's runtime makes of texts."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    runnable = opened.runnable()
    described = {
        "model": type(runnable.model).__name__,
        "config": runnable.model.config.to_dict(),
        "task": task_of(runnable),
    }
    asked = {
        "described": described,
        "weights": packed(runnable.model)._asdict(),
        "tokenizer": json.loads(runnable.tokenizer.to_str()),
        "texts": texts,
        "like": like or {"flows": [], "start": {}},
        "whole": whole,
    }
    given, got = folder / "given.json", folder / "got.json"
    given.write_text(json.dumps(asked), encoding="utf-8")
    ran = subprocess.run(
        ["node", str(SESSION), str(given), str(got)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answers: list[Any] = json.loads(got.read_text(encoding="utf-8"))
    return answers


def python_answers(opened: TaskModel, texts: list[str]) -> list[Any]:
    import torch

    with torch.no_grad():
        return opened.task.answers(opened.model, texts, opened.recipe, {})


@pytest.fixture(scope="module")
def translated(opened, tmp_path_factory):
    """What the page makes of SENTENCES and of texts that it cannot read, with all that it shows."""
    about = meta_of(opened("translation"), SENTENCES[0])[0]["about"]
    folder = tmp_path_factory.mktemp("translated")
    texts = [*SENTENCES, "  ", LONG, FOREIGN]
    return runs(folder, opened("translation"), texts, about, whole=True)


@pytest.fixture(scope="module")
def judged(opened, tmp_path_factory):
    """The same of FILMS and a text that is too long."""
    about = meta_of(opened("sentiment"), FILMS[0])[0]["about"]
    return runs(tmp_path_factory.mktemp("judged"), opened("sentiment"), [*FILMS, LONG], about, whole=True)


def meta_of(model: TaskModel, text: str) -> tuple[dict[str, Any], TensorStore]:
    """What Python writes into a page about a text."""
    store = TensorStore()
    return page_meta(summarize(model.read(text), Selection()), store, 1 << 30), store


def test_the_same_translations(translated, opened):
    wanted = [answer["translation_text"] for answer in python_answers(opened("translation"), list(SENTENCES))]
    for answer, text in zip(translated, wanted, strict=False):
        assert answer["output"]["text"] == text
        assert answer["told"][-1] == text  # the last that was heard while it was written
        assert answer["about"]["output"] == {
            "kind": "text", "name": "translation", "text": text, "given": False, "choices": [],
        }  # fmt: skip


@pytest.mark.slow
def test_the_same_translations_of_200(tmp_path, opened):
    """Sentences of the boxed model's own domain, made of each other's halves so that none was seen."""
    model = opened("translation")
    halves = [sentence.rstrip(".!?").split() for sentence in SENTENCES]
    texts = [
        " ".join([*first[: len(first) // 2 + 1], *second[len(second) // 2 :]]) + end
        for first in halves for second in halves for end in (".", "?")
    ][:200]  # fmt: skip
    wanted = [answer["translation_text"] for answer in python_answers(model, texts)]
    got = [answer["output"]["text"] for answer in runs(tmp_path, model, texts)]
    assert got == wanted


@pytest.mark.slow
def test_the_same_continuation(tmp_path, opened):
    model = opened("generation")
    texts = ["I will"]
    wanted = [answer["generated_text"] for answer in python_answers(model, texts)]
    for answer, text, whole in zip(runs(tmp_path, model, texts), texts, wanted, strict=True):
        assert text + answer["output"]["text"] == whole
        assert len(answer["told"]) == 100
        # The tokens of the text and those that were written are one side.
        assert len(answer["sides"][0]["texts"]) == len(answer["output"]["ids"]) + len(
            model.task.tokenizer.encode(text).ids
        )


def test_the_same_labels(judged, opened):
    wanted = python_answers(opened("sentiment"), list(FILMS))
    for answer, label in zip(judged, wanted, strict=False):
        best = answer["output"]["labels"][0]
        assert (best["label"], best["p"]) == (label["label"], pytest.approx(label["score"], abs=1e-4))
        assert sum(each["p"] for each in answer["output"]["labels"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("task", ["translation", "sentiment"])
def test_all_that_a_page_shows(request, opened, task):
    """Sections, tokens, numbers, labels and pictures of heads: as Python writes them into a static page."""
    text = {"translation": SENTENCES, "sentiment": FILMS}[task][0]
    answer = request.getfixturevalue({"translation": "translated", "sentiment": "judged"}[task])[0]
    meta, store = meta_of(opened(task), text)
    about = answer["about"]
    for name in ("sections", "texts", "flows"):
        assert about[name] == meta["about"][name]
    for at, side in enumerate(answer["sides"]):
        for name in ("texts", "words", "special", "glued"):
            assert side[name] == meta["tokens"][str(at)][name]
    arrays = dict(_blocks(store))
    for at, layer in enumerate(meta["layers"]):
        check_numbers(answer["numbers"][at], layer["numbers"])
        close(answer["received"][at], arrays[layer["tensors"]["received"]["id"]], 1e-3)
        thumbnails, ref = answer["thumbnails"][at], layer["thumbnails"]
        assert [thumbnails["heads"], thumbnails["height"], thumbnails["width"]] == ref["shape"]
        close(thumbnails["values"], arrays[ref["id"]], 2e-3)


def _blocks(store: TensorStore):
    for name, data in store._blocks.values():
        kind = {4: "<f4", 2: "<f2"}
        yield name, (data, kind)


def close(got: list[float | None], held: Any, within: float) -> None:
    data, kinds = held
    numbers = np.array([np.nan if each is None else each for each in got])
    width = len(data) // len(numbers)
    np.testing.assert_allclose(numbers, np.frombuffer(data, kinds[width]), atol=within)


def check_numbers(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert got["labels"] == wanted["labels"]
    assert list(got["heads"]) == list(wanted["heads"])
    for name, numbers in wanted["heads"].items():
        assert got["heads"][name] == pytest.approx(numbers, abs=1e-3), name
    assert {name: got[name] for name in ("rows", "of", "sampled")} == {
        name: wanted[name] for name in ("rows", "of", "sampled")
    }


def test_what_was_written_has_probabilities(translated, opened):
    import torch

    model = opened("translation")
    output = translated[0]["output"]
    source = model.task.ids_of(SENTENCES[0], model.recipe.context)
    config = model.model.config
    with torch.no_grad():
        logits = model.model(torch.tensor([source]), torch.tensor([[config.start, *output["ids"][:-1]]]))
    shares = logits[0].softmax(-1)
    for row, step, at in zip(shares, output["steps"], output["ids"], strict=True):
        assert step["p"] == pytest.approx(float(row[at]), abs=1e-4)
        best = row.topk(8)
        assert [each["p"] for each in step["top"]] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert step["token"] == model.task.tokenizer.id_to_token(at)
    assert output["ids"][-1] == config.end


def test_texts_that_cannot_be_read_are_explained(translated, judged):
    empty, too_long, foreign = translated[len(SENTENCES) :]
    assert empty["error"] == "There is no token in this text that the model knows: type a word."
    assert (
        too_long["error"]
        == "This text has 81 tokens, and the model reads 64: split it into shorter sentences."
    )
    assert judged[-1]["about"]["notices"] == ["the text has 80 tokens; this page reads the first 64"]
    (notice,) = foreign["output"]["notices"]
    assert notice.startswith("this model does not know ")
    assert foreign["about"]["notices"] == [notice]


def test_blocks_of_weights_hold_no_markup(opened):
    """The page's text blocks hold nothing that HTML could read as the beginning or the end of an element."""
    letters = {chr(code) for code in range(ord("("), ord("~") + 1)} - {"<"}
    for block in packed(opened("sentiment").model).blocks:
        assert set(block["text"]) <= letters
