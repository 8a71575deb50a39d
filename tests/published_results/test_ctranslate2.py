"""Models in CTranslate2's format are read as they are written, and damaged ones refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from published.ctranslate2 import TYPES, read_model


def text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"


def variable(name: str, value: np.ndarray, kind: int | None = None) -> bytes:
    if kind is None:
        kind = next(number for number, dtype in TYPES.items() if np.dtype(dtype) == value.dtype)
    sizes = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
    return text(name) + sizes + struct.pack("<BI", kind, value.nbytes) + value.tobytes()


def model(variables: list[bytes], aliases: list[tuple[str, str]] = (), version: int = 6) -> bytes:
    head = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    tail = struct.pack("<I", len(aliases)) + b"".join(text(name) + text(of) for name, of in aliases)
    return head + b"".join(variables) + tail


@pytest.fixture
def read(tmp_path):
    """Reads a model of these bytes."""

    def read(data: bytes):
        (tmp_path / "model.bin").write_bytes(data)
        return read_model(tmp_path / "model.bin")

    return read


@pytest.mark.parametrize("dtype", TYPES.values())
def test_every_type_and_rank(read, dtype):
    values = {
        "a/weight": np.arange(6).reshape(2, 3).astype(dtype),
        "wörter": np.arange(24).reshape(2, 3, 4).astype(dtype),
        "a/scalar": np.array(3, dtype),
        "none": np.zeros((0, 5), dtype),
    }
    found = read(model([variable(name, value) for name, value in values.items()]))
    assert list(found) == list(values)
    for name, value in values.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_an_alias_is_the_variable_that_it_means(read):
    weight = np.ones((2, 2), np.float32)
    found = read(model([variable("embeddings", weight)], [("projection", "embeddings")]))
    assert found["projection"] is found["embeddings"]


ONE = variable("a", np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    "data, message",
    [
        (model([ONE], version=5), "format 5, where only 6 is read"),
        (model([ONE])[:-6], "ends after"),
        (model([ONE]) + b"xy", "2 bytes are left"),
        (model([variable("a", np.ones(2, np.float32), kind=5)]), "a is of type 5"),
        (
            model([ONE.replace(struct.pack("<II", 2, 2), struct.pack("<II", 2, 3))]),
            r"a has 4 values for sizes \[2, 3\]",
        ),
    ],
)
def test_damaged_files_are_refused(read, data, message):
    with pytest.raises(ValueError, match=message):
        read(data)
