"""Reading a corpus, document by document: never more than one of them in memory."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sightline.common.errors import CommandError

SPLITS = ("line", "blank", "file")
_JSON = {".jsonl", ".ndjson"}
_TABLES = {".csv": ",", ".tsv": "\t"}
_TEXTS = {".txt", ".md"}
# Files of up to this many bytes are hashed whole, larger ones in this many evenly spaced blocks.
_HASHED = 64 << 20
_BLOCKS = 64


class CorpusError(CommandError):
    """The corpus cannot be read."""


class BadRecordError(Exception):
    """A document that cannot be read, though the next one may be; the message says which and why."""


@dataclass(frozen=True)
class Document:
    """A text, and for an encoder–decoder the text that its decoder reads, if that is another one."""

    text: str
    target: str | None = None


class Corpus:
    """The documents of a file, or of a folder of text files.

    Args:
        path: a text file (one document per line), .jsonl, .csv or .tsv, each of them also with .gz; or a
            folder, each of whose .txt and .md files is a document.
        split: how a text file is cut: "line", "blank" (at blank lines) or "file" (not at all).
        field: the key or column of the text, in JSON lines and tables.
        target: the key or column of the decoder's text, for encoder–decoders.
        skip_bad: pass over documents that cannot be read, and count them.

    Attributes:
        bad: how many were passed over in the latest reading.
        done: the share of the bytes that has been read, from 0 to 1.

    Raises:
        CorpusError: for a path that does not exist, or options that do not suit it.
    """

    def __init__(
        self,
        path: Path,
        split: str | None = None,
        field: str | None = None,
        target: str | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.path, self.field, self.target, self.skip_bad = path, field or "text", target, skip_bad
        self.files = _files(path)
        self.split = split or ("file" if path.is_dir() else "line")
        if self.split not in SPLITS:
            raise CorpusError(f"--split {split}: must be one of {', '.join(SPLITS)}")
        fields = any(_kind(file) in _JSON or _kind(file) in _TABLES for file in self.files)
        if fields and split is not None:
            raise CorpusError(f"--split {split}: {path} already has one document in each record")
        if not fields and (field or target):
            option = f"--field {field}" if field else f"--target {target}"
            raise CorpusError(f"{option}: {path} is plain text; JSON lines, .csv and .tsv have fields")
        self.bad, self.done = 0, 0.0
        self._sizes = [file.stat().st_size for file in self.files]

    def settings(self) -> dict[str, Any]:
        """What a profile's numbers depend on, by the name of the option that sets it."""
        return {
            "corpus": self.identity(),
            "split": self.split,
            "field": self.field,
            "target": self.target,
            "skip-bad": self.skip_bad,
        }

    def identity(self) -> dict[str, Any]:
        """What tells it from other corpora: names in order, sizes, and a hash of the contents."""
        names = [str(file.relative_to(self.path)) if self.path.is_dir() else file.name for file in self.files]
        digest = hashlib.sha256()
        for name, file, size in zip(names, self.files, self._sizes, strict=True):
            digest.update(f"{name}\0{size}\0".encode())
            with _one_line_errors(file), open(file, "rb") as raw:
                _hash(raw, size, digest)
        return {"name": self.path.name, "bytes": sum(self._sizes), "sha256": digest.hexdigest()[:32]}

    def __iter__(self) -> Iterator[Document]:
        """The documents in order.

        Raises:
            CorpusError: for a document or file that cannot be read.
        """
        self.bad, self.done = 0, 0.0
        before, whole = 0, max(1, sum(self._sizes))
        for file, size in zip(self.files, self._sizes, strict=True):
            with _one_line_errors(file), open(file, "rb") as raw:
                records = self._records(file, raw)  # kept until the file is closed, which it may wrap
                for document in self._good(records):
                    self.done = (before + raw.tell()) / whole
                    yield document
            before += size

    def _good(self, records: Iterator[Document]) -> Iterator[Document]:
        """The documents that can be read; raises at, or counts, the others."""
        while True:
            try:
                yield next(records)
            except StopIteration:
                return
            except BadRecordError as error:
                if not self.skip_bad:
                    raise CorpusError(f"{error}; --skip-bad passes over such documents") from None
                self.bad += 1

    def _records(self, file: Path, raw: BinaryIO) -> Iterator[Document]:
        plain: Any = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        kind = _kind(file)
        if kind in _TABLES:
            return self._rows(file, plain, _TABLES[kind])
        if kind in _JSON:
            return _PieceDocuments(file, _lines(plain), self._of_json)
        if self.split == "file":
            return _PieceDocuments(file, iter([(1, plain.read())]), Document)
        pieces = _lines(plain) if self.split == "line" else _paragraphs(plain)
        return _PieceDocuments(file, pieces, Document)

    def _of_json(self, line: str) -> Document:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(f"not JSON: {getattr(error, 'msg', type(error).__name__)}") from None
        if not isinstance(record, dict):
            raise BadRecordError(f'not a JSON object such as {{"{self.field}": …}}')
        return self._of_record(record)

    def _of_record(self, record: dict[str, Any]) -> Document:
        target = None if self.target is None else _text_of(record, self.target)
        return Document(_text_of(record, self.field), target)

    def _rows(self, file: Path, plain: Any, delimiter: str) -> Iterator[Document]:
        csv.field_size_limit(1 << 30)  # the default limit rejects long documents
        text = io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.DictReader(text, delimiter=delimiter, strict=True)
        missing = [name for name in (self.field, self.target) if name and name not in (rows.fieldnames or ())]
        if missing:
            known = ", ".join(rows.fieldnames or ()) or "none"
            raise CorpusError(f"{file}: there is no column {missing[0]!r}; its columns: {known}")
        return _TableDocuments(file, rows, self._of_record)


def _text_of(record: dict[str, Any], name: str) -> str:
    text = record.get(name)
    if isinstance(text, str):
        return text
    known = ", ".join(str(key) for key in list(record)[:8])
    what = f"no {name!r}" if text is None else f"{name!r} is not a text"
    raise BadRecordError(f"{what} in a record with {known or 'nothing'}")


class _PieceDocuments:
    """Documents from pieces of bytes with their line numbers; unlike a generator, it survives a bad one."""

    def __init__(
        self, file: Path, pieces: Iterator[tuple[int, bytes]], make: Callable[[str], Document]
    ) -> None:
        self._file, self._pieces, self._make = file, pieces, make

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        line, piece = next(self._pieces)
        where = f"{self._file}, line {line}"
        try:
            text = piece.decode("utf-8-sig" if line == 1 else "utf-8")
            return self._make(text.rstrip("\r\n"))
        except UnicodeDecodeError as error:
            byte = piece[error.start]
            raise BadRecordError(f"{where}: not UTF-8 (byte {error.start} is {byte:#04x})") from None
        except BadRecordError as error:
            raise BadRecordError(f"{where}: {error}") from None


class _TableDocuments:
    """Documents from the rows of a table; unlike a generator, it survives a bad one."""

    def __init__(
        self, file: Path, rows: csv.DictReader[str], make: Callable[[dict[str, Any]], Document]
    ) -> None:
        self._file, self._rows, self._make = file, rows, make

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        try:
            document = self._make(next(self._rows))
            for text in (document.text, document.target or ""):
                text.encode()
            return document
        except UnicodeEncodeError:
            raise BadRecordError(f"{self._file}, line {self._rows.line_num}: not UTF-8") from None
        except (BadRecordError, csv.Error) as error:
            raise BadRecordError(f"{self._file}, line {self._rows.line_num}: {error}") from None


def _lines(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1 with those that are."""
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _paragraphs(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines joined up to the next blank one, each with the number of its first."""
    held: list[bytes] = []
    first = 1
    for number, line in enumerate(lines, 1):
        if line.strip():
            first = first if held else number
            held.append(line)
        elif held:
            yield first, b"".join(held)
            held = []
    if held:
        yield first, b"".join(held)


def _kind(file: Path) -> str:
    return (file.with_suffix("") if file.suffix == ".gz" else file).suffix.lower()


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise CorpusError(f"no such file or folder: {path}")
    if not path.is_dir():
        if _kind(path) == ".json":
            raise CorpusError(f"{path}: a corpus is JSON lines, one object per line, in a file named .jsonl")
        return [path]
    texts = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in _TEXTS)
    if not texts:
        raise CorpusError(f"{path}: there are no .txt or .md files in this folder")
    return texts


@contextmanager
def _one_line_errors(file: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is read into a CorpusError of one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(f"cannot read {file}: {reason}") from None


def _hash(raw: BinaryIO, size: int, digest: Any) -> None:
    if size <= _HASHED:
        while block := raw.read(1 << 20):
            digest.update(block)
        return
    for k in range(_BLOCKS):
        raw.seek((size - (1 << 20)) * k // (_BLOCKS - 1), os.SEEK_SET)
        digest.update(raw.read(1 << 20))
