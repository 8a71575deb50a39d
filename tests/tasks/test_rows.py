"""Ordinary files: what is read of them, and what is said of those that are not in order."""

from __future__ import annotations

import gzip
import json

import pytest

from sightline.tasks.rows import DataError, read_label_folder, read_rows

COLUMNS = ("text", "label")
WANTED = [("good, really", "pos"), ('a "quoted" one', "neg")]


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize(
    "name, text",
    [
        ("x.tsv", 'good, really\tpos\na "quoted" one\tneg\n'),
        ("x.tsv", 'label\tid\ttext\npos\t1\tgood, really\nneg\t2\ta "quoted" one\n'),
        ("x.csv", 'text,label\n"good, really",pos\n"a ""quoted"" one",neg\n'),
        ("x.tsv", '\ufefftext\tlabel\ngood, really\tpos\na "quoted" one\tneg\n'),
        ("x.tsv.gz", 'good, really\tpos\na "quoted" one\tneg\n'),
        ("x.jsonl", "\n".join(json.dumps({"label": label, "text": text}) for text, label in WANTED) + "\n"),
    ],
)
def test_formats(tmp_path, name, text):
    assert read_rows(write(tmp_path / name, text), COLUMNS).rows == WANTED


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("x.tsv", "good\tpos\nbad\n", "line 2: has 1 columns, expected 2"),
        ("x.tsv", "good\tpos\n\t neg\n", "line 2: a column is empty"),
        ("x.csv", "good,pos\n\nbad,neg\n", "line 2: the line is empty"),
        ("x.jsonl", '{"text": "a", "label": "b"}\n{"text": "c"}\n', "line 2: lacks label"),
        ("x.jsonl", '{"text": "a", "label": "b"}\n[1\n', "line 2: is no JSON"),
        ("x.jsonl", '{"text": "a", "label": "b"}\n{"text": null, "label": "b"}\n', "line 2: lacks text"),
        (
            "x.jsonl",
            '{"text": "a", "label": "b"}\n{"text": ["a"], "label": "b"}\n',
            "line 2: text is no text",
        ),
    ],
)
def test_a_bad_row_is_told_or_passed_over(tmp_path, name, text, told):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=told):
        read_rows(path, COLUMNS)
    found = read_rows(path, COLUMNS, skip_bad=True)
    assert len(found.bad) == 1 and told in found.bad[0]
    assert all(text.strip() and label.strip() for text, label in found.rows)


def test_what_is_no_table(tmp_path):
    for path, told in (
        (tmp_path / "missing.tsv", "no such file"),
        (write(tmp_path / "x.xlsx", "a"), "is no table"),
        (write(tmp_path / "empty.tsv", ""), "holds no row with text and label"),
    ):
        with pytest.raises(DataError, match=told):
            read_rows(path, COLUMNS)
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("café\tpos\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 1: byte 0xe9 is not UTF-8; give the right --encoding"):
        read_rows(latin, COLUMNS)
    with pytest.raises(DataError, match="there is no such encoding"):
        read_rows(latin, COLUMNS, encoding="utf-9")
    assert read_rows(latin, COLUMNS, encoding="latin-1").rows == [("café", "pos")]
    broken = tmp_path / "x.tsv.gz"
    broken.write_bytes(gzip.compress(b"good\tpos\n" * 1000)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(broken, COLUMNS)


def test_columns_that_were_named_must_be_there(tmp_path):
    path = write(tmp_path / "x.csv", "review,stars\ngood,5\n")
    with pytest.raises(DataError, match="--columns text,stars: its first row has review, stars"):
        read_rows(path, ("text", "stars"), named=True)
    assert read_rows(path, ("stars", "review"), named=True).rows == [("5", "good")]


def test_a_long_document_is_no_error(tmp_path):
    long = "word " * 50_000
    assert read_rows(write(tmp_path / "x.csv", f"{long},pos\n"), COLUMNS).rows == [(long.strip(), "pos")]


def test_a_folder_of_labels(tmp_path):
    write(tmp_path / "reviews.pos", "fine\n\ngood\n")
    with pytest.raises(DataError, match="found 1"):
        read_label_folder(tmp_path)
    write(tmp_path / "reviews.neg", "dull\n")
    write(tmp_path / "README.txt", "about")
    assert read_label_folder(tmp_path).rows == [("dull", "neg"), ("fine", "pos"), ("good", "pos")]
