"""How large a tensor the matrix hands out before it asks whether that is meant."""

from __future__ import annotations

#: Bytes past which the dense matrix is refused.
DENSE_LIMIT = 1 << 30

_INSTEAD = (
    "Ask for a part (A[b, h, rows, cols]), a readout (A.topk(k), A.entropy(), A.received()), "
    "a picture (A.pool(height, width)) or a product (A @ x), or raise limit= (bytes)"
)


def check_size(what: str, size: int, limit: float | None = None) -> None:
    """Raises MemoryError where ``what`` takes more bytes than the limit, and says what to ask for instead."""
    allowed = DENSE_LIMIT if limit is None else limit
    if size > allowed:
        raise MemoryError(f"{what} take {_bytes(size)}, over the limit of {_bytes(allowed)}. {_INSTEAD}.")


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**29 else f"{size / 2**20:,.1f} MiB"
