"""What a caller may pass as a recording: a file, a folder, or samples with their rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.tasks.rows import DataError
from sightline.tasks.speech.audio import ENDINGS, Recording, as_recording
from sightline.tasks.speech.features import CEPSTRA

_KEYS = ("raw", "array")  # the keys of samples in Hugging Face's pipelines and datasets


def recordings_at(path: Path) -> list[Path]:
    """A file, or the recordings of a folder and those below it, in order.

    Raises:
        DataError: there is none.
    """
    if not path.is_dir():
        return [path]
    paths = sorted(each for each in path.rglob("*") if each.suffix.lower() in (*ENDINGS, CEPSTRA))
    if not paths:
        raise DataError(f"{path}: holds no recording ({', '.join((*ENDINGS, CEPSTRA))})")
    return paths


def as_given(given: Any) -> Recording:
    """(samples, rate), or {"raw" or "array": samples, "sampling_rate": rate}.

    Raises:
        DataError: for anything else, and for samples that cannot be used.
    """
    if isinstance(given, dict):
        key = next((key for key in _KEYS if key in given), None)
        if key is None or "sampling_rate" not in given:
            raise DataError(
                f"input: a dictionary needs 'raw' or 'array', and 'sampling_rate'; it has "
                f"{', '.join(map(str, given))}"
            )
        return as_recording(given[key], given["sampling_rate"], "input")
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return as_recording(given[0], given[1], "input")
    raise DataError(f"input: expected a path, (samples, rate) or a dictionary, got {type(given).__name__}")
