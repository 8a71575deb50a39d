"""A trace of several processes: each keeps what it holds, writes one file, and the files open as one trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from sightline import distributed
from sightline.models import Decoder, DecoderConfig
from sightline.tracing.tensor_file import map_file, write_file

CLOSE = {"atol": 1e-12, "rtol": 1e-12}


def decoder(positions: str = "alibi") -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        width=8, heads=2, kv_heads=1, layers=2, vocabulary=11, dropout=0.0, positions=positions
    )
    return Decoder(config).double().eval()


def traced(group: Any, folder: str, order: str, positions: str) -> None:
    """Each process saves its part; the trace itself has sharded matrices that read as one process's."""
    model, ids = decoder(positions), torch.randint(11, (2, 13))
    mask = sightline.documents(torch.arange(13) // 5)
    with sightline.trace(model) as alone:
        wanted = model(ids, mask=mask)
    with distributed.context_parallel(group, order=order, timeout=300):
        own = distributed.shard(ids, 1)
        with sightline.trace(model) as trace:
            found = model(own, mask=mask)
        assert [(call.name, call.kind, call.reason) for call in trace] == [
            (call.name, call.kind, None) for call in alone
        ]
        torch.testing.assert_close(found, distributed.shard(wanted, 1), **CLOSE)
        for call, right in zip(trace, alone, strict=True):
            assert isinstance(call.matrix, distributed.ShardedMatrix)
            torch.testing.assert_close(call.matrix.dense(), right.matrix.dense(), **CLOSE)
        for targets in (12, [3, -1]):
            own = distributed.unshard(trace.rollout(targets), -1)
            torch.testing.assert_close(own, alone.rollout(targets), **CLOSE)
        trace.tokens = distributed.shard(torch.arange(13), 0).tolist()
        trace.tokens = [f"t{token}" for token in trace.tokens]
    trace.save(f"{folder}/run.safetensors")
    dist.barrier(group)
    count = dist.get_world_size(group)
    for name in ["run.safetensors", *([f"run.1-of-{count}.safetensors"] if count > 1 else [])]:
        saved = sightline.load_trace(Path(folder) / name)
        assert saved.tokens == [f"t{token}" for token in range(13)]
        for call, right in zip(saved, alone, strict=True):
            assert (call.name, call.kind, call.verified) == (right.name, right.kind, True)
            assert type(call.matrix) is sightline.AttentionMatrix
            torch.testing.assert_close(call.matrix.dense(), right.matrix.dense(), **CLOSE)
            torch.testing.assert_close(call.matrix.lse, right.matrix.lse, **CLOSE)
            torch.testing.assert_close(call.matrix.value, right.matrix.value, **CLOSE)
        torch.testing.assert_close(saved.rollout(12), alone.rollout(12), **CLOSE)


def test_parts_open_as_one(pool, tmp_path):
    pool.run(traced, str(tmp_path), "zigzag", "alibi", count=2)
    from sightline.view.server.catalogue import open_files

    parts = sorted(tmp_path.glob("run.*"))
    [opened] = open_files([tmp_path / "run.safetensors", *parts])  # as a shell writes run.* out
    assert len(opened.calls) == 2 and opened.matrix(1).shape == (1, 2, 13, 13)
    assert [token.text for token in opened.sides[0]][:3] == ["t0", "t1", "t2"]
    check_damaged(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["relative", "rotary"])
@pytest.mark.parametrize("order, count", [("contiguous", 3), ("zigzag", 4), ("zigzag", 1)])
def test_all_orders(pool, tmp_path, order, count, positions):
    pool.run(traced, str(tmp_path), order, positions, count=count)


def check_damaged(folder: Path) -> None:
    """Parts that are missing, of another run, or say wrong things of themselves."""
    first, second = folder / "run.0-of-2.safetensors", folder / "run.1-of-2.safetensors"
    hidden = folder / "hidden"
    second.rename(hidden)
    with pytest.raises(ValueError, match=r"a trace of 2 processes, and run.1-of-2.safetensors does not lie"):
        sightline.load_trace(first)
    with pytest.raises(FileNotFoundError):
        sightline.load_trace(folder / "other.safetensors")
    shutil.copy(first, second)
    with pytest.raises(ValueError, match="the file of part 1 of 2 says that it is another"):
        sightline.load_trace(first)
    tensors, metadata = map_file(hidden)
    about = json.loads(metadata["sightline_trace"])

    def changed(change: Any) -> None:
        told = json.loads(metadata["sightline_trace"])
        change(told)
        write_file(second, tensors, {"sightline_trace": json.dumps(told)})

    for change, why in (
        (lambda told: told["calls"].pop(), "different runs"),
        (lambda told: told["calls"][0].update(scale=2.0), "different runs"),
        (lambda told: told["calls"][0]["tensors"].update(key={"name": "none", "shape": [1]}), "is missing"),
        (
            lambda told: told["calls"][0]["tensors"].update(key=about["calls"][0]["tensors"]["lse"]),
            "axes|fit",
        ),
        (lambda told: told.update(tokens=["a"]), "tokens that are not those of their positions"),
        (lambda told: told.update(calls=3), "its calls are no list"),
    ):
        changed(change)
        with pytest.raises(ValueError, match=why):
            sightline.load_trace(first)
    both = [folder / f"run.{rank}-of-2.safetensors" for rank in range(2)]
    told = [map_file(first), (tensors, metadata)]
    for layout in ([[[0, 7]], [[6, 13]]], [[[0, 6]], [[7, 13]]], [[[0, 13]], [[13, 20]]], [[[0]], []], 3):
        for path, (numbers, data) in zip(both, told, strict=True):
            about = json.loads(data["sightline_trace"])
            about["calls"][0]["layouts"]["queries"] = layout
            write_file(folder / "new", dict(numbers), {"sightline_trace": json.dumps(about)})
            (folder / "new").replace(path)
        with pytest.raises(ValueError, match="the layout of its queries"):
            sightline.load_trace(first)


def gradients(group: Any) -> None:
    """Gradients of contexts are those of the own rows; layers can be chosen; dropout is told of."""
    model, ids = decoder("rotary"), torch.randint(11, (1, 9))
    with sightline.trace(model, gradients=True) as alone:
        model(ids).pow(2).sum().backward()
    with distributed.context_parallel(group, timeout=300):
        with sightline.trace(model, layers=[1], gradients=True) as trace:
            model(distributed.shard(ids, 1)).pow(2).sum().backward()
        torch.testing.assert_close(distributed.unshard(trace[0].gradient, 2), alone[1].gradient, **CLOSE)
        tensors = torch.randn(3, 1, 1, 4, 4)
        with sightline.trace(None) as trace:
            sightline.attention(*tensors, dropout=0.5)
        assert not trace[0].verified and "dropout" in trace[0].reason
        refused = pytest.raises(
            NotImplementedError, match="Intervention does not follow attention on several"
        )
        with refused, sightline.intervene(model) as change:
            change.block(layer=0, head=0)
            model(distributed.shard(ids, 1))


def test_gradients_and_what_is_refused(pool):
    pool.run(gradients, count=2)
