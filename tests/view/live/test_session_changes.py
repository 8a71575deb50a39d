"""What if, of every kind of task: the worker's answers are the server's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sightline.commands.opening import open_model
from sightline.interventions.written import read_changes
from sightline.view.live import packed
from sightline.view.live.page import task_of
from sightline.view.server.reader import Reader
from sightline.view.server.whatif import changed, effects_of_heads, rooms_of

SCRIPT = Path(__file__).parent / "whatif.mjs"
LISTS = {
    "sentiment": [
        [{"kind": "ablate", "section": "encoder", "layer": 0, "head": 1}],
        [{"kind": "block", "section": ["encoder"], "keys": [2]}],
        [{"kind": "set", "section": "encoder", "queries": [3, 4], "keys": [1], "to": 0.9}],
    ],
    "generation": [
        [{"kind": "ablate", "section": "decoder", "layer": 1}],
        [{"kind": "block", "section": "decoder", "layer": 0, "head": 1, "queries": [9], "keys": [5]}],
    ],
    "translation": [
        [{"kind": "ablate", "section": "cross", "layer": 1}],
        [{"kind": "set", "section": "cross", "layer": 2, "head": 0, "queries": [2], "keys": [4], "to": 0.7}],
    ],
}
TEXTS = {
    "sentiment": "A warm and funny film, not bad at all.",
    "generation": "To be, or not to be: that is the question",
    "translation": "The cat sat on the mat.",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", LISTS)
def test_both_answers_and_the_effects(task, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    opened, text = open_model(task), TEXTS[task]
    read = Reader(task, lambda name: opened, lambda trace: None).read_now(text)
    runnable = opened.runnable()
    asked = {
        "described": {
            "model": type(runnable.model).__name__,
            "config": runnable.model.config.to_dict(),
            "task": task_of(runnable),
        },
        "weights": packed(runnable.model)._asdict(),
        "tokenizer": json.loads(runnable.tokenizer.to_str()),
        "base": {"text": text, "ids": None, "answer": None, "count": len(read.reading.sections[-1].queries)},
        "lists": LISTS[task],
    }
    given, got = tmp_path / "given.json", tmp_path / "got.json"
    given.write_text(json.dumps(asked), encoding="utf-8")
    ran = subprocess.run(
        ["node", str(SCRIPT), str(given), str(got)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(got.read_text(encoding="utf-8"))
    for changes, answer in zip(LISTS[task], told["answers"], strict=True):
        _, before, after = changed(opened, read, read_changes(changes, rooms_of(read.reading)), lambda: None)
        for mine, wanted in ((answer["before"], before), (answer["after"], after)):
            assert mine["about"] == wanted.about
            if task == "translation":
                assert mine["text"] == wanted.text
            elif mine["text"] is not None:  # the page goes on for longer
                assert mine["text"].startswith(wanted.text)
            for place, candidates in zip(mine["places"] or [0], mine["candidates"], strict=True):
                row = wanted.places.index(place) if wanted.places else 0
                shares = dict(wanted.candidates[row])
                for word, share in candidates[:3]:
                    assert share == pytest.approx(shares[word], abs=1e-3), (changes, place, word)
    wanted = effects_of_heads(opened, read, lambda done, total: None)
    assert told["effects"]["baseline"] == pytest.approx(wanted["baseline"], abs=1e-3)
    for section, layers in wanted["sections"].items():
        for mine, values in zip(told["effects"]["sections"][section], layers, strict=True):
            assert mine == pytest.approx(values, abs=1e-3)
    assert told["shares"][-1] == 1 and told["shares"] == sorted(told["shares"])
