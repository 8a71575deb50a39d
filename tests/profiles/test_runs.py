"""One process, three shards, or interrupted runs: the table is the same to the last byte."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sightline
from sightline.common.errors import CommandError
from sightline.profiling.corpus import Corpus
from sightline.profiling.job import ProfileJob
from sightline.profiling.loading import load_profiled_model
from sightline.profiling.options import ProfileOptions
from sightline.profiling.shards import Shards
from sightline.profiling.signals import Interrupted
from sightline.profiling.statistics import STATISTICS

from .conftest import corpus_in, texts

OPTIONS = {"batch": 2, "measures": ["entropy", "sink_mass", "previous_token", "max_logit"], "labels": True}


@pytest.fixture(scope="module")
def whole(model_folder, tmp_path_factory):
    """The table of one uninterrupted run over the corpus, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    sightline.profile(str(model_folder("bert")), corpus_in(folder), **OPTIONS).save(folder / "whole.csv")
    return (folder / "whole.csv").read_bytes()


class Collected(Shards):
    """A shard whose others ran before."""

    def __init__(self, rank, world, before):
        super().__init__(rank, world)
        self.before = before

    def gather(self, part):
        if isinstance(part, dict) and "tally" in part:
            self.before.append(json.loads(json.dumps(part)))
            return list(reversed(self.before))
        return [part]


def job_of(model, documents, options, shards=None, **ways):
    corpus = Corpus(documents) if isinstance(documents, Path) else documents
    return ProfileJob(load_profiled_model(model, **ways), corpus, ProfileOptions(**options), shards)


def test_three_shards(whole, model_folder, corpus, tmp_path):
    before = []
    for rank in range(3):
        profile = job_of(str(model_folder("bert")), corpus, OPTIONS, Collected(rank, 3, before)).run()
    assert len({part["documents"] for part in before}) <= 3 and all(part["documents"] < 40 for part in before)
    profile.save(tmp_path / "shards.csv")
    assert (tmp_path / "shards.csv").read_bytes() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed(whole, model_folder, corpus, tmp_path, number):
    checkpoint = tmp_path / "x.partial"
    documents, before = [], signal.getsignal(signal.SIGINT)

    def interrupt(progress):
        documents.append(progress.documents)
        os.kill(os.getpid(), number)

    for _ in range(3):
        with pytest.raises(Interrupted):
            sightline.profile(
                str(model_folder("bert")), corpus, checkpoint=checkpoint, progress=interrupt, **OPTIONS
            )
        assert checkpoint.exists()
    assert documents == sorted(set(documents)) and len(documents) == 3
    profile = sightline.profile(
        str(model_folder("bert")), corpus, checkpoint=checkpoint, resume=True, **OPTIONS
    )
    assert not checkpoint.exists()
    profile.save(tmp_path / "resumed.csv")
    assert (tmp_path / "resumed.csv").read_bytes() == whole
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_saves_what_was_done(whole, model_folder, corpus, tmp_path):
    checkpoint = tmp_path / "x.partial"
    good = corpus.read_bytes()

    def stop(progress):
        if progress.documents > 10:
            raise CommandError("enough")

    with pytest.raises(CommandError, match="enough"):
        sightline.profile(str(model_folder("bert")), corpus, checkpoint=checkpoint, progress=stop, **OPTIONS)
    assert json.loads(checkpoint.read_text())["state"]["documents"] > 10
    assert corpus.read_bytes() == good


def interrupted(model_folder, corpus, checkpoint, **options):
    with pytest.raises(Interrupted):
        sightline.profile(
            str(model_folder("bert")), corpus, checkpoint=checkpoint,
            progress=lambda progress: os.kill(os.getpid(), signal.SIGINT), **(OPTIONS | options),
        )  # fmt: skip


def test_other_settings_are_refused(model_folder, corpus, tmp_path):
    checkpoint = tmp_path / "x.partial"
    interrupted(model_folder, corpus, checkpoint)
    model = str(model_folder("bert"))
    with pytest.raises(CommandError, match=r"saved with other settings: batch was 2, now 3\. .*--restart"):
        sightline.profile(model, corpus, checkpoint=checkpoint, **(OPTIONS | {"batch": 3}))
    with pytest.raises(CommandError, match="measures was .*, now "):
        sightline.profile(model, corpus, checkpoint=checkpoint, batch=2)
    corpus.write_text(corpus.read_text().replace("the", "teh", 1))
    with pytest.raises(CommandError, match="corpus was "):
        sightline.profile(model, corpus, checkpoint=checkpoint, **OPTIONS)
    profile = sightline.profile(model, corpus, checkpoint=checkpoint, resume=False, **OPTIONS)
    assert profile.info["documents"] == 40


def test_other_numbers_of_processes_are_refused(model_folder, corpus, tmp_path):
    checkpoint = tmp_path / "x.partial"
    (tmp_path / "x.partial.2-of-3").write_text("{}")
    with pytest.raises(CommandError, match=r"2-of-3 comes from a run with 3 process"):
        sightline.profile(str(model_folder("bert")), corpus, checkpoint=checkpoint, **OPTIONS)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1}', '{"format": "sightline profile checkpoint 1"}', "[" * 100000]
)
def test_a_damaged_checkpoint(model_folder, corpus, tmp_path, text):
    checkpoint = tmp_path / "x.partial"
    checkpoint.write_text(text)
    with pytest.raises(CommandError, match=r"cannot be read \(.*--restart starts over"):
        sightline.profile(str(model_folder("bert")), corpus, checkpoint=checkpoint, **OPTIONS)


def test_nothing_to_resume(model_folder, corpus, tmp_path):
    with pytest.raises(CommandError, match="nothing to continue"):
        sightline.profile(str(model_folder("bert")), corpus, checkpoint=tmp_path / "x", resume=True)


def test_a_full_disk(model_folder, tmp_path, monkeypatch):
    profile = sightline.profile(str(model_folder("bert")), texts(3), **OPTIONS)
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    for name in ("x.csv", "x.parquet", "x.png"):
        with pytest.raises(CommandError, match="cannot write .*No space left on device"):
            profile.plot(tmp_path / name) if name == "x.png" else profile.save(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_memory_does_not_grow_with_documents(tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
    model = torch.nn.Sequential(torch.nn.Embedding(50, 16), layer)
    checkpoint, sizes = tmp_path / "x.partial", []

    def note(progress):
        if progress.documents in (16, 32, 48):
            gc.collect()
            kinds = [type(one) for one in gc.get_objects()]
            tensors = sum(issubclass(kind, torch.Tensor) for kind in kinds)
            sizes.append((len(kinds), tensors, len(json.dumps(job._state.to_json()))))

    # Ever new lengths: whatever kept something for each of them would grow.
    documents = ([k % 50 for k in range(3 + i)] for i in range(49))
    options = {"batch": 1, "measures": list(STATISTICS)}
    job = job_of(model, documents, options, run=lambda ids, real: model(ids))
    job.run(checkpoint, progress=note)
    objects, tensors, states = zip(*sizes, strict=True)
    assert objects[2] - objects[1] < 16 and tensors[2] - tensors[1] < 5, sizes
    assert states[2] - states[1] < 0.1 * states[0], sizes  # longer numbers, histograms' bins that were empty


@pytest.mark.slow
def test_torchrun(model_folder, corpus, tmp_path):
    model, one, two = model_folder("bert"), tmp_path / "one.parquet", tmp_path / "two.parquet"
    arguments = [str(model), str(corpus), "--batch", "2", "--threads", "1"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "sightline", "profile", *arguments, "-o", str(one)]
    subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        "29611",
        "-m",
        "sightline",
    ]
    ran = subprocess.run(
        [*launch, "profile", *arguments, "-o", str(two)],
        check=False,
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert one.read_bytes() == two.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["corpus.txt", "one.parquet", "two.parquet"]
    bad = [*arguments, "--layer", "no.such.layer"]
    ran = subprocess.run(
        [*launch, "profile", *bad, "-o", str(two)],
        check=False,
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert ran.returncode != 0 and "of 2: layers: the model has no module 'no.such.layer'" in ran.stderr
