"""Training in two processes is training in one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")
pytest.importorskip("rich", reason="tasks need the [app] extra")
pytest.importorskip("resource", reason="limits of a process are POSIX")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch was built without torch.distributed", allow_module_level=True)

from sightline.cli import main

SMALL = [
    "--set",
    "width=32",
    "--set",
    "heads=2",
    "--set",
    "layers=1",
    "--set",
    "vocabulary=200",
    "--threads",
    "1",
]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def text(tmp_path):
    """41 sources of one word to four, and their translations."""
    names = {"a": "eins", "b": "zwei drei", "c": "vier", "d": "fünf sechs sieben"}
    draw = random.Random(0)
    rows = [[draw.choice("abcd") for _ in range(draw.randint(1, 4))] for _ in range(41)]
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{' '.join(row)}\t{' '.join(names[c] for c in row)}\n" for row in rows))
    return path


@pytest.fixture
def reviews(tmp_path):
    draw = random.Random(0)
    words = {"pos": ["warm", "funny", "fine"], "neg": ["dull", "grim", "long"]}
    path = tmp_path / "reviews.tsv"
    path.write_text(
        "".join(f"a very {draw.choice(words[label])} film\t{label}\n" for label in ("pos", "neg") * 60)
    )
    return path


def launched(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*LAUNCH, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_the_steps_are_those_of_one_process(text, tmp_path):
    """With shares of different numbers of tokens, and a last batch of one example; nothing is told twice."""
    options = ["--set", "epochs=3", "--set", "batch=8", "--set", "dropout=0", "--set", "context=16", "--set",
               "warmup=1", "--set", "average=0.5", "--valid", text, *SMALL]  # fmt: skip
    given = ["train", "translation", "--data", text, *options]
    threads = torch.get_num_threads()
    assert main([str(each) for each in [*given, "--out", tmp_path / "one"]]) == 0
    assert torch.get_num_threads() == threads
    done = launched("-m", "sightline", *given, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 3 and one[0]["training_loss"] != pytest.approx(one[2]["training_loss"])
    for mine, other in zip(one, two, strict=True):
        for name in ("training_loss", "loss"):
            assert other[name] == pytest.approx(mine[name], abs=1e-5)
    assert done.stdout.count("validation: ") == 1 and done.stderr.count("epoch 2: ") == 1
    assert "1 threads in each of 2 processes" in (tmp_path / "two" / "README.md").read_text()


@pytest.mark.slow
def test_two_processes_end_together(reviews, tmp_path):
    """After interruptions, an error, a full disk, in one of them."""
    done = launched(Path(__file__).parent / "in_two_processes.py", reviews, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_command_stops_and_is_refused_to_others(reviews, tmp_path, capsys):
    given = ["train", "sentiment", "--data", str(reviews), "--out", str(tmp_path / "model"), *SMALL,
             "--set", "epochs=1000", "--set", "patience=1000"]  # fmt: skip
    command = [*LAUNCH, "-m", "sightline", *given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as launcher:
        for line in launcher.stderr:
            if line.startswith("epoch 1: "):
                launcher.send_signal(signal.SIGINT)
                break
        rest = launcher.stderr.read()
    assert launcher.returncode != 0 and rest.count("the same command goes on from") == 1, rest
    assert rest.count("stopping after this step") == 1 and "has ended" not in rest
    assert main(given) == 1
    assert "is of a run with another number of processes (2, not 1); give" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_told_once(reviews, tmp_path):
    options = ["--set", "rate=1e30", "--set", "warmup=1", *SMALL]
    done = launched(
        "-m", "sightline", "train", "sentiment", "--data", reviews, "--out", tmp_path / "m", *options
    )
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("sightline: the loss became nan")]
    assert done.stderr.count("sightline: ") == 1
