"""Reading a corpus, document by document: never more of it in memory than one."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sightline.common.errors import CommandError

SPLITS = ("line", "blank", "file")
_JSON = {".jsonl", ".ndjson"}
_TABLES = {".csv": ",", ".tsv": "\t"}
_TEXTS = {".txt", ".md"}
# Files of up to so many bytes are hashed whole, larger ones in so many blocks, evenly apart.
_HASHED = 64 << 20
_BLOCKS = 64


class CorpusError(CommandError):
    """The corpus cannot be read."""


class BadRecord(Exception):  # noqa: N818  (an exception that --skip-bad takes for a record)
    """A document that cannot be read, though the next one may be; the message says which and why."""


@dataclass(frozen=True)
class Document:
    """A text, and for an encoder–decoder the text that its decoder reads, if it is another."""

    text: str
    target: str | None = None


class Corpus:
    """The documents of a file, or of a folder of text files.

    Args:
        path: a text file (a document a line), .jsonl, .csv or .tsv, each of them also with .gz; or a folder,
            whose .txt and .md files are a document each.
        split: how a text file is cut: "line", "blank" (at blank lines) or "file" (not at all).
        field: the key or column of the text, in JSON lines and tables.
        target: that of the decoder's text, for encoder–decoders.
        skip_bad: pass over documents that cannot be read, and count them.

    Attributes:
        bad: how many were passed over in the latest reading.
        done: how much of the bytes it has read, from 0 to 1.

    Raises:
        CorpusError: for a path that is not there, or options that do not go with it.
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
            raise CorpusError(f"--split {split}: {path} has a document in each record already")
        if not fields and (field or target):
            option = f"--field {field}" if field else f"--target {target}"
            raise CorpusError(f"{option}: {path} is plain text; JSON lines, .csv and .tsv have fields")
        self.bad, self.done = 0, 0.0
        self._sizes = [file.stat().st_size for file in self.files]

    def identity(self) -> dict[str, Any]:
        """What says whether it is the same corpus: names in order, sizes, and a hash of the contents."""
        names = [str(file.relative_to(self.path)) if self.path.is_dir() else file.name for file in self.files]
        digest = hashlib.sha256()
        for name, file, size in zip(names, self.files, self._sizes, strict=True):
            digest.update(f"{name}\0{size}\0".encode())
            with _reported(file), open(file, "rb") as raw:
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
            with _reported(file), open(file, "rb") as raw:
                records = self._records(file, raw)
                while True:
                    try:
                        document = next(records, None)
                    except BadRecord as error:
                        if not self.skip_bad:
                            raise CorpusError(f"{error}; --skip-bad passes over such documents") from None
                        self.bad += 1
                        continue
                    if document is None:
                        break
                    self.done = (before + raw.tell()) / whole
                    yield document
            before += size

    def _records(self, file: Path, raw: BinaryIO) -> Iterator[Document]:
        plain: Any = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        kind = _kind(file)
        if kind in _TABLES:
            return self._rows(file, plain, _TABLES[kind])
        if kind in _JSON:
            return _Records(file, _lines(plain), self._of_json)
        if self.split == "file":
            return _Records(file, iter([(1, plain.read())]), Document)
        pieces = _lines(plain) if self.split == "line" else _paragraphs(plain)
        return _Records(file, pieces, Document)

    def _of_json(self, line: str) -> Document:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"not JSON: {getattr(error, 'msg', type(error).__name__)}") from None
        if not isinstance(record, dict):
            raise BadRecord(f'not a JSON object, as {{"{self.field}": …}} is')
        return self._of_record(record)

    def _of_record(self, record: dict[str, Any]) -> Document:
        found = []
        for name in (self.field, self.target):
            text = None if name is None else record.get(name)
            if name is not None and not isinstance(text, str):
                known = ", ".join(str(key) for key in list(record)[:8])
                what = f"no {name!r}" if text is None else f"{name!r} is no text"
                raise BadRecord(f"{what} in a record with {known or 'nothing'}")
            found.append(text)
        return Document(found[0] or "", found[1])

    def _rows(self, file: Path, plain: Any, delimiter: str) -> Iterator[Document]:
        csv.field_size_limit(1 << 30)  # the default takes a long document for an error
        text = io.TextIOWrapper(plain, "utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.DictReader(text, delimiter=delimiter, strict=True)
        missing = [name for name in (self.field, self.target) if name and name not in (rows.fieldnames or ())]
        if missing:
            known = ", ".join(rows.fieldnames or ()) or "none"
            raise CorpusError(f"{file}: there is no column {missing[0]!r}; its columns: {known}")
        return _Rows(file, rows, self._of_record)


class _Records:
    """Documents of pieces of bytes with their lines; a bad one does not end this, as it would a generator."""

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
            raise BadRecord(f"{where}: not UTF-8 (byte {error.start} is {byte:#04x})") from None
        except BadRecord as error:
            raise BadRecord(f"{where}: {error}") from None


class _Rows:
    """Documents of the rows of a table."""

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
            raise BadRecord(f"{self._file}, line {self._rows.line_num}: not UTF-8") from None
        except (BadRecord, csv.Error) as error:
            raise BadRecord(f"{self._file}, line {self._rows.line_num}: {error}") from None


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
            raise CorpusError(f"{path}: a corpus is JSON lines, an object a line, in a file named .jsonl")
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in _TEXTS)
    if not found:
        raise CorpusError(f"{path}: there are no .txt or .md files in this folder")
    return found


class _reported:  # noqa: N801  (a context manager, in the manner of contextlib.suppress)
    """Tells in one line that a file cannot be read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> None:
        if isinstance(error, (OSError, EOFError, zlib.error)) and not isinstance(error, BrokenPipeError):
            reason = getattr(error, "strerror", None) or error
            raise CorpusError(f"cannot read {self._file}: {reason}") from None


def _hash(raw: BinaryIO, size: int, digest: Any) -> None:
    if size <= _HASHED:
        while block := raw.read(1 << 20):
            digest.update(block)
        return
    for k in range(_BLOCKS):
        raw.seek((size - (1 << 20)) * k // (_BLOCKS - 1), os.SEEK_SET)
        digest.update(raw.read(1 << 20))
