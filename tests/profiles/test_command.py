"""The command: files, summary, every kind of corpus, and one clear line for what is wrong."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json

import pytest

import sightline
from sightline.common.errors import CommandError
from sightline.profiling.corpus import Corpus
from view.test_errors import check_error

from .conftest import texts

QUICK = ("--measure", "entropy", "--batch", "4")


def test_files_and_summary(run, corpus, tmp_path):
    table, plot = tmp_path / "x.csv", tmp_path / "x.svg"
    ran = run(corpus, "-o", table, "--plot", plot, "--limit", 6)
    assert ran.code == 0, ran.err
    assert "6 documents" in ran.out and "entropy\t" in ran.out and "Jain & Wallace 2019" in ran.out
    assert plot.read_text().startswith("<?xml") and "<svg" in plot.read_text()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["measure"] for row in rows} >= {"entropy", "sink_mass", "received_max", "attention_distance"}
    assert len(rows) == 3 * 4 * len({row["measure"] for row in rows})
    heads = sightline.load_profile(table)
    assert heads.values("entropy").shape == (3, 4) and heads.rows[0].count == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "x.csv", "x.svg"]


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason=".parquet needs pyarrow")
def test_parquet_holds_the_same(run, corpus, tmp_path):
    for name in ("x.csv", "x.parquet"):
        assert run(corpus, "-o", tmp_path / name, *QUICK).code == 0
    first, second = (sightline.load_profile(tmp_path / name) for name in ("x.csv", "x.parquet"))
    assert [repr(row) for row in first.rows] == [repr(row) for row in second.rows]
    assert second.info["documents"] == 40 and second.info["settings"]["batch"] == 4


def test_list_of_measures(sightline_command):
    ran = sightline_command("profile", "--measures")
    assert ran.code == 0
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("*")][:2] == [
        "entropy",
        "entropy_normalized",
    ]
    assert "  induction" in ran.out


def test_encoder_decoder(run, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(json.dumps({"en": a, "de": b}) + "\n" for a, b in zip(texts(5), texts(5, 1), strict=True))
    )
    ran = run(path, "--field", "en", "--target", "de", "-o", tmp_path / "x.csv", *QUICK, model="t5")
    assert ran.code == 0, ran.err
    assert sightline.load_profile(tmp_path / "x.csv").stacks == ["encoder self", "decoder self", "cross"]
    assert "the decoder read the same" not in ran.out


def test_windows_take_everything(run, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(" ".join(["cat"] * 100))
    assert run(path, "-o", tmp_path / "x.csv", "--max-tokens", 12, *QUICK).out.count("cut to 12") == 1
    assert run(path, "-o", tmp_path / "x.csv", "--max-tokens", 12, "--windows", *QUICK).code == 0
    assert sightline.load_profile(tmp_path / "x.csv").rows[0].count == 10


def documents(path, **options):
    return [(one.text, one.target) for one in Corpus(path, **options)]


def test_kinds_of_corpora(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\n\n two\nlines\n\n\nthree".encode())
    assert documents(tmp_path / "a.txt") == [("one", None), (" two", None), ("lines", None), ("three", None)]
    assert [text for text, _ in documents(tmp_path / "a.txt", split="blank")] == [
        "one",
        " two\nlines",
        "three",
    ]
    assert len(documents(tmp_path / "a.txt", split="file")) == 1
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"four\nfive"))
    assert documents(tmp_path / "b.txt.gz") == [("four", None), ("five", None)]
    assert len(documents(tmp_path)) == 2
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "n": 1}\n')
    assert documents(tmp_path / "c.jsonl") == [("one", None), ("two", None)]
    (tmp_path / "d.tsv").write_text('id\ttext\tto\n1\t"a ""b""\nc"\tx\n')
    assert documents(tmp_path / "d.tsv", target="to") == [('a "b"\nc', "x")]


@pytest.mark.parametrize(
    "name, data, options, message",
    [
        ("x.jsonl", b'{"text": "a"}\n\n{"text"\n', {}, r"x.jsonl, line 3: not JSON: .*; --skip-bad"),
        ("x.jsonl", b"[1]\n", {}, r"line 1: not a JSON object"),
        ("x.jsonl", b'{"body": "a"}\n', {}, r"line 1: no 'text' in a record with body"),
        ("x.txt", b"a\n\xff\n", {}, r"line 2: not UTF-8 \(byte 0 is 0xff\)"),
        ("x.csv", b"a,b\n1,2\n", {}, r"there is no column 'text'; its columns: a, b"),
        ("x.csv", b"text\nfine\n\xff\n", {}, r"line 3: not UTF-8"),
        ("x.txt.gz", b"not gzip", {}, r"cannot read .*x.txt.gz: Not a gzipped file"),
        ("x.txt.gz", gzip.compress(b"word " * 5000, mtime=0)[:-20], {}, r"cannot read "),
        ("x.txt", b"a", {"field": "text"}, r"--field text: .* is plain text"),
        ("x.txt", b"a", {"split": "word"}, r"--split word: must be one of line, blank, file"),
        ("x.jsonl", b"", {"split": "line"}, r"already has one document in each record"),
        ("x.json", b"[]", {}, r"a corpus is JSON lines"),
    ],
)
def test_bad_corpora(tmp_path, name, data, options, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CommandError, match=message):
        documents(tmp_path / name, **options)


def test_bad_documents_are_passed_over(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "a"}\n{\n\xff\n{"text": "b"}\n')
    corpus = Corpus(tmp_path / "x.jsonl", skip_bad=True)
    assert [one.text for one in corpus] == ["a", "b"] and corpus.bad == 2


@pytest.mark.parametrize(
    "options, words",
    [
        (("-o", "x.json"), "must end in .parquet or .csv"),
        (("-o", "no/x.csv"), "does not exist"),
        (("-o", "x.csv", "--plot", "x.jpg"), "must end in .png, .svg, .pdf"),
        (("-o", "x.csv", "--measure", "entropie"), "there is no measure 'entropie'; known: entropy"),
        (("-o", "x.csv", "--batch", 0), "--batch 0: at least 1"),
        (("-o", "x.csv", "--dtype", "int8"), "--dtype int8: must be one of"),
        (("-o", "x.csv", "--layer", "encoder.layr"), "the model has no module 'encoder.layr'"),
        (("-o", "x.csv", "--resume"), "nothing to continue"),
    ],
)
def test_bad_options(run, corpus, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    check_error(run(corpus, *options), words)


def test_nothing_to_measure(run, tmp_path):
    path = tmp_path / "x.txt"
    check_error(run(path, "-o", tmp_path / "x.csv"), "no such file or folder")
    path.write_text("\n \n")
    check_error(run(path, "-o", tmp_path / "x.csv"), "the corpus is empty")


def test_empty_documents_are_counted(run, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": ""}\n{"text": "the cat"}\n')
    ran = run(path, "-o", tmp_path / "x.csv", *QUICK)
    assert ran.code == 0 and "1 documents without a token were passed over" in ran.out


def test_unverified_and_missing_attention():
    import torch

    layer = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True, dropout=0.5).train()
    model = torch.nn.Sequential(torch.nn.Embedding(9, 8), layer)
    options = {"run": lambda ids, real: model(ids), "batch": 1, "measures": ["entropy"]}
    with pytest.raises(CommandError, match="not verified: dropout is active.*--unverified"):
        sightline.profile(model, [[1, 2, 3]], **options)
    assert sightline.profile(model, [[1, 2, 3]], unverified=True, **options).rows[0].count == 1
    plain = torch.nn.Sequential(torch.nn.Embedding(9, 8))
    with pytest.raises(CommandError, match="no attention was seen in the model"):
        sightline.profile(plain, [[1, 2, 3]], run=lambda ids, real: plain(ids))
