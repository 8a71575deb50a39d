"""A saved trace comes back without its model; what is not a valid trace is one clear error."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from sightline.tracing.tensor_file import HEADER_LIMIT, map_file, write_file

from .families import FAMILIES, make
from .modules import HeadMasked, NanoGPT, SquaredReluAttention, ids


def traced(name: str, **options: Any) -> Any:
    model = make(name, "eager")
    with torch.no_grad(), sightline.trace(model, **options) as trace:
        model(**FAMILIES[name].inputs())
    return trace


@pytest.mark.parametrize("name", ["bert", "mistral", "gemma2", "gpt_oss", "t5"])
@pytest.mark.parametrize("offload", [None, "disk"])
def test_round_trip(name: str, offload: str | None, tmp_path: Path) -> None:
    trace = traced(name, offload=offload)
    trace.tokens = ["The", "cat", "„sat“"]
    path = tmp_path / "x.safetensors"
    trace.save(path)
    loaded = sightline.load_trace(path)
    assert loaded.tokens == trace.tokens and loaded.model == trace.model
    assert loaded.versions["torch"] == str(torch.__version__)
    assert [repr(call) for call in loaded] == [repr(call) for call in trace]
    for one, other in zip(trace, loaded, strict=True):
        torch.testing.assert_close(other.matrix.dense(), one.matrix.dense())
        torch.testing.assert_close(other.matrix.entropy(), one.matrix.entropy(), atol=1e-5, rtol=1e-5)
        assert other.matrix.problem.value is not None
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_reads_it(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    trace = traced("llama")
    trace.save(tmp_path / "x.safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        about = json.loads(file.metadata()["sightline_trace"])
        name = about["calls"][0]["tensors"]["query"]["name"]
        assert torch.equal(file.get_tensor(name), trace[0].matrix.problem.query)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    trace = traced("bert", dtype=dtype)
    trace.save(tmp_path / "x.safetensors")
    loaded = sightline.load_trace(tmp_path / "x.safetensors")
    assert loaded[0].matrix.dtype == dtype
    assert torch.equal(loaded[0].matrix.problem.key, trace[0].matrix.problem.key)


def test_doubtful_calls_and_gradients_are_saved(tmp_path: Path) -> None:
    model = NanoGPT(HeadMasked(), SquaredReluAttention())
    with sightline.trace(model, gradients=True) as trace:
        model(ids()).sum().backward()
    trace.save(tmp_path / "x.safetensors")
    loaded = sightline.load_trace(tmp_path / "x.safetensors")
    assert [call.reason for call in loaded] == [call.reason for call in trace]
    assert torch.equal(loaded[0].gradient, trace[0].gradient)
    assert loaded[1].shape is None


def test_size_is_linear(tmp_path: Path) -> None:
    model = make("llama", "eager")
    sizes = []
    for length in (32, 64):
        with torch.no_grad(), sightline.trace(model) as trace:
            model(torch.randint(3, 60, (1, length)))
        path = tmp_path / f"{length}.safetensors"
        trace.save(path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 2.1 * sizes[0]


def test_loading_is_lazy(tmp_path: Path) -> None:
    trace = traced("bert")
    trace.save(tmp_path / "x.safetensors")
    query = sightline.load_trace(tmp_path / "x.safetensors")[0].matrix.problem.query
    assert query.untyped_storage().nbytes() == (tmp_path / "x.safetensors").stat().st_size


def test_what_cannot_be_written(tmp_path: Path) -> None:
    trace = traced("bert")
    with pytest.raises(FileNotFoundError):
        trace.save(tmp_path / "missing" / "x.safetensors")
    trace.tokens = [1, 2]
    with pytest.raises(TypeError, match="must be strings, got 1. Decode them"):
        trace.save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


# --- hostile files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "x.safetensors"
    traced("gpt_oss").save(path)
    return path.read_bytes()


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, numbers: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def with_header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        header, numbers = split(data)
        change(header)
        return joined(header, numbers)

    return apply


def about(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A change of the trace's own description."""

    def apply(header: dict[str, Any]) -> None:
        described = json.loads(header["__metadata__"]["sightline_trace"])
        change(described)
        header["__metadata__"]["sightline_trace"] = json.dumps(described)

    return with_header(apply)


def call(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    return about(lambda described: change(described["calls"][0]))


def ranges_out_of_bounds(data: bytes) -> bytes:
    header, numbers = split(data)
    described = json.loads(header["__metadata__"]["sightline_trace"])
    start, stop = header[described["calls"][0]["tensors"]["ranges"]["name"]]["data_offsets"]
    return joined(
        header, numbers[:start] + struct.pack("<i", 1 << 30) * ((stop - start) // 4) + numbers[stop:]
    )


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "too few for a header"),
    "cut in the header": (lambda data: data[:100], "cut off: a header of"),
    "cut in the numbers": (lambda data: data[:-64], "cut off: .* of numbers are announced"),
    "longer": (lambda data: data + b"xxxx", "4 bytes that belong to no tensor"),
    "a huge header": (lambda data: struct.pack("<Q", 1 << 62) + data, f"over {HEADER_LIMIT}"),
    "a pickle": (lambda data: b"\x80\x04\x95" + data, "not a valid trace"),
    "no JSON": (lambda data: joined(b"{" * 1000, b""), "header is no JSON"),
    "deep JSON": (lambda data: joined(b"[" * 200_000, b""), "header is no JSON"),
    "a list": (lambda data: joined([], b""), "no JSON object"),
    "a name twice": (lambda data: joined(b'{"a":{},"a":{}}', b""), "header is no JSON"),
    "another file": (with_header(lambda h: h.pop("__metadata__")), "but no trace"),
    "metadata of numbers": (with_header(lambda h: h["__metadata__"].update(x=1)), "are not strings"),
    "an unknown dtype": (with_header(lambda h: h["0.key"].update(dtype="F4")), "has the dtype 'F4'"),
    "a wrong shape": (with_header(lambda h: h["0.key"].update(shape=[1, 2, 3, 4])), "which is not F32"),
    "a negative size": (with_header(lambda h: h["0.key"].update(shape=[-1, -2])), "what '0.key' is"),
    "a true size": (with_header(lambda h: h["0.key"].update(shape=[True])), "what '0.key' is"),
    "overlapping": (with_header(lambda h: h["0.key"].update(data_offsets=[0, 1])), "which is not F32"),
    "a missing tensor": (call(lambda c: c["tensors"]["key"].update(name="gone")), "'gone', is missing"),
    "no key": (call(lambda c: c["tensors"].pop("key")), "lacks its query, key or lse"),
    "tensors exchanged": (
        call(lambda c: c["tensors"].update(key=c["tensors"]["lse"])), "its key has 3 axes, expected 4",
    ),
    "an unknown term": (call(lambda c: c["tensors"].update(seed=c["tensors"]["lse"])), "unknown names"),
    "a huge expansion": (
        call(lambda c: c["tensors"]["lse"].update(shape=[1 << 39, 4, 9])), "which is not",
    ),
    "another shape": (call(lambda c: c.update(shape=[1, 1, 1, 1])), "says another shape"),
    "no scale": (call(lambda c: c.update(scale="1")), "invalid scale"),
    "an infinite scale": (call(lambda c: c.update(scale=float("inf"))), "invalid scale"),
    "an unknown kind": (call(lambda c: c.update(kind="other")), "unknown kind"),
    "no calls": (about(lambda a: a.update(calls=3)), "calls are no list"),
    "tokens of numbers": (about(lambda a: a.update(tokens=[1])), "tokens are no strings"),
    "a later format": (about(lambda a: a.update(format=99)), "format 99, .* Install a later"),
    "no format": (about(lambda a: a.pop("format")), "lacks a format"),
    "ranges beyond the keys": (ranges_out_of_bounds, "its ranges run from"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(case: str, good: bytes, tmp_path: Path) -> None:
    change, message = HOSTILE[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(change(good))
    with pytest.raises(ValueError, match=message) as caught:
        sightline.load_trace(path)
    assert str(caught.value).startswith(f"{path}: is not a valid trace: ")


def test_random_damage_gives_an_error_or_a_trace(good: bytes, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    length = int.from_bytes(good[:8], "little")
    path = tmp_path / "x.safetensors"
    for _ in range(200):
        data = bytearray(good)
        for place in torch.randint(0, length + 8, (3,), generator=generator).tolist():
            data[place] = int(torch.randint(0, 256, (), generator=generator))
        path.write_bytes(bytes(data))
        try:
            for one in sightline.load_trace(path):
                one.matrix.entropy()
        except (ValueError, LookupError):
            pass


def test_a_folder_is_no_trace(tmp_path):
    with pytest.raises(ValueError, match="it is a folder"):
        sightline.load_trace(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sightline.load_trace(tmp_path / "x.safetensors")


def test_tensor_files(tmp_path: Path) -> None:
    tensors = {
        "a": torch.arange(5, dtype=torch.int8), "b": torch.tensor([True, False]), "empty": torch.empty(0, 3),
        "c": torch.randn(3, 4).T, "d": torch.randn(2).bfloat16(), "e": torch.tensor(7),
    }  # fmt: skip
    write_file(tmp_path / "x", tensors, {"said": "„so“"})
    found, metadata = map_file(tmp_path / "x")
    assert metadata == {"said": "„so“"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
