"""What was said, and where it lies: tables, folders, LibriSpeech's and CMU Sphinx's transcripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sightline.tasks.rows import DataError, read_rows
from sightline.tasks.speech.audio import ENDINGS
from sightline.tasks.speech.features import CEPSTRA
from sightline.tasks.task import Source

SPHINX = ".fileids"
_TRANSCRIPTS = ".trans.txt"
_MARKS = re.compile(r"<[^>]*>|\([^()]*\)\s*$")  # <s> </s> <sil> ... (id)


class Said(NamedTuple):
    """A recording, what was said in it, and by whom, if the data say so."""

    path: Path
    text: str
    speaker: str = ""


def read_said(path: Path, source: Source) -> tuple[list[Said], list[str]]:
    """(what was said, what was skipped) in a table, a folder, or a .fileids of CMU Sphinx.

    - A .tsv, .csv or .jsonl with columns ``path`` (relative to the table) and ``text``.
    - A folder with a .txt beside each recording of the same name, or LibriSpeech's ``*.trans.txt``, whose
      lines are ``id text`` of recordings in the same folder; in folders below it, too.
    - ``NAME.fileids`` with ``NAME.transcription`` beside it, a line each; .mfc files lie in ``feat``,
      recordings in ``wav``, beside the folder ``etc`` that holds the two. The folder of a recording is its
      speaker.

    Raises:
        DataError: for data of another kind, a line that cannot be used (without ``skip_bad``), or none.
    """
    if path.is_dir():
        recordings = list(_folder(path, source.encoding))
        if not recordings:
            raise DataError(
                f"{path}: holds no recording with a .txt of the same name, and no *{_TRANSCRIPTS}"
            )
        return _texts(recordings, source)
    if path.suffix == SPHINX:
        return _texts(list(_sphinx(path, source.encoding)), source)
    rows = read_rows(
        path, source.columns or ("path", "text"), named=bool(source.columns),
        skip_bad=source.skip_bad, encoding=source.encoding,
    )  # fmt: skip
    said, bad = _texts([Said(path.parent / name, text) for name, text in rows.rows], source)
    return said, rows.bad + bad


def _texts(given: list[Said], source: Source) -> tuple[list[Said], list[str]]:
    """With runs of blanks made one, and without recordings that have no text."""
    kept, bad = list[Said](), list[str]()
    for each in given:
        text = " ".join(each.text.split())
        if text:
            kept.append(each._replace(text=text))
        elif source.skip_bad:
            bad.append(f"{each.path}: nothing was said")
        else:
            raise DataError(f"{each.path}: nothing was said (--skip-bad passes over such recordings)")
    return kept, bad


def _folder(folder: Path, encoding: str) -> Iterator[Said]:
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(_TRANSCRIPTS):
            for number, line in enumerate(_lines(path, encoding), 1):
                name, _, text = line.partition(" ")
                yield Said(_recording(path.parent, name, f"{path}, line {number}"), text, name.split("-")[0])
        elif path.suffix.lower() in ENDINGS and path.with_suffix(".txt").is_file():
            yield Said(path, " ".join(_lines(path.with_suffix(".txt"), encoding)))


def _sphinx(path: Path, encoding: str) -> Iterator[Said]:
    names = _lines(path, encoding)
    texts = _lines(path.with_suffix(".transcription"), encoding)
    if len(names) != len(texts):
        raise DataError(
            f"{path}: names {len(names)} recordings, and {path.with_suffix('.transcription').name} has "
            f"{len(texts)} lines"
        )
    root = path.parent.parent if path.parent.name == "etc" else path.parent
    for number, (name, text) in enumerate(zip(names, texts, strict=True), 1):
        cepstra = root / "feat" / f"{name}{CEPSTRA}"
        where = f"{path}, line {number}"
        sound = cepstra if cepstra.is_file() else _recording(root / "wav", name, where)
        yield Said(sound, _MARKS.sub("", text), Path(name).parent.name)


def _recording(folder: Path, name: str, where: str) -> Path:
    """The file of that name, whatever its ending."""
    for ending in ENDINGS:
        path = folder / f"{name}{ending}"
        if path.is_file():
            return path
    raise DataError(f"{where}: there is no recording {folder / name} ({', '.join(ENDINGS)})")


def _lines(path: Path, encoding: str) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    except (OSError, UnicodeDecodeError, LookupError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
