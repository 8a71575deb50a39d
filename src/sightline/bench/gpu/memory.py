"""Memory at 131072 tokens: a forward pass, the same with its matrix kept, and readouts."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sightline.bench.gpu.clock import mark, peak_memory, sized
from sightline.bench.gpu.passes import Shape, drawn
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import Row, Session
from sightline.call.attention import attention
from sightline.masks import causal

#: Of the plain forward pass's memory together with the queries and keys.
TARGET = 1.1


def rows(session: Session) -> Iterator[Row]:
    """Causal, one sequence."""
    shape: Shape = sized(session, full=(1, 16, 131072, 128), quick=(1, 4, 131072, 128), tiny=(1, 2, 32, 8))
    dtype = sized(session, full="bfloat16", quick="bfloat16", tiny="float32")
    device = session.device
    query, key, value, _ = drawn(shape, dtype, device)
    case = {"case": f"({','.join(map(str, shape))}) causal", "dtype": dtype}
    with torch.no_grad():
        attention(query, key, value, mask=causal())  # the kernel's first answer is checked, which takes room
        session.progress("memory: forward")
        plain = peak_memory(lambda: attention(query, key, value, mask=causal()), device)
        yield case | {"what": "forward", "mb": _mb(plain)}
        session.progress("memory: forward, with the matrix kept")
        # The queries and keys that the matrix keeps are there before; so they are left out on both sides.
        kept = peak_memory(lambda: attention(query, key, value, mask=causal(), return_matrix=True), device)
        both = sum(one.numel() * one.element_size() for one in (query, key))
        share = None if plain is None or kept is None else (kept + both) / (plain + both)
        row = case | {"what": "forward, with the matrix kept", "mb": _mb(kept), "share": share}
        yield row | mark(session, share, TARGET, least=False)
        _, matrix = attention(query, key, value, mask=causal(), return_matrix=True)
        session.progress("memory: readouts")
        read = peak_memory(lambda: matrix.readouts("received", "entropy", topk=8), device)
        yield case | {"what": "received, entropy, top-8", "mb": _mb(read)}


def _mb(size: int | None) -> float | None:
    return None if size is None else size / 2**20


SECTION = BenchSection(
    name="gpu-memory",
    title="On a device: memory",
    note="The most that is allocated above what is there before. The share counts queries and keys, too.",
    columns=(
        CASE, DTYPE, Column("what", "what", "text"), Column("mb", "MB", "number"),
        Column("share", "of the plain forward pass", "ratio"), Column("target", "target", "text"),
        Column("mark", "mark", "text"),
    ),
    rows=rows,
)  # fmt: skip
