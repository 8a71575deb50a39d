"""A picture of a region in Triton: each program has one cell, and goes through its rows and keys."""

from __future__ import annotations

from sightline.backends.triton.language import tl, triton
from sightline.backends.triton.tiles import added, logits, rows_of, weights


@triton.jit
def cell_pass(
    Query, Key, Ranges, Visible, Bias, Slopes, Table, Offset, High, Low,
    query_b, query_h, query_n, query_d, key_b, key_g, key_m, key_d, range_b, range_h, range_n,
    visible_b, visible_h, visible_n, visible_m, bias_b, bias_h, bias_n, bias_m,
    slope_b, table_h, offset_b,
    scale, softcap, H, group, N, M, D, T,
    Sums, Largest, Seen, RowEdges, KeyEdges, width,
    RANGES: tl.constexpr, VISIBLE: tl.constexpr, BIAS: tl.constexpr, SLOPES: tl.constexpr,
    TABLE: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr,
    LARGEST: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Of each cell the sum or the largest of its visible weights, and how many they are: [B,H,height,width].

    Args:
        RowEdges: [height+1] int32, where the cells begin, and where the last one ends. Worked out in here,
            they would take divisions of 64 bits: calls of a function, around which compilers spill registers.
        KeyEdges: [width+1], the same of keys.
    """
    r = tl.program_id(0) // width
    c = tl.program_id(0) % width
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    Ranges += b * range_b + h * range_h
    Visible += b * visible_b + h * visible_h
    Bias += b * bias_b + h * bias_h
    Slopes += b * slope_b + h
    Table += h * table_h
    Offset += b * offset_b
    Query += b * query_b + h * query_h
    Key += b * key_b + (h // group) * key_g
    first_row, last_row = tl.load(RowEdges + r), tl.load(RowEdges + r + 1)
    first_key, last_key = tl.load(KeyEdges + c), tl.load(KeyEdges + c + 1)
    total = tl.zeros([BLOCK_M], tl.float32)
    lost = tl.zeros([BLOCK_M], tl.float32)
    most = tl.full([BLOCK_M], -1.0, tl.float32)
    seen = tl.zeros([BLOCK_M], tl.int64)
    for row in range(first_row, last_row, BLOCK_N):
        i = row + tl.arange(0, BLOCK_N)
        q = rows_of(Query, i, query_n, query_d, last_row, D, BLOCK_D)
        place = (b * H + h) * N + i
        high = tl.load(High + place, mask=i < last_row, other=0.0)
        low = tl.load(Low + place, mask=i < last_row, other=0.0)
        for start in range(first_key, last_key, BLOCK_M):
            j = start + tl.arange(0, BLOCK_M)
            k = rows_of(Key, j, key_m, key_d, last_key, D, BLOCK_D)
            masked = logits(
                q, k, i, j, b, h, Ranges, Visible, Bias, Slopes, Table, Offset,
                range_n, visible_n, visible_m, bias_n, bias_m, scale, softcap, last_row, last_key, T,
                RANGES, VISIBLE, BIAS, SLOPES, TABLE, SOFTCAP, PRECISION,
            )  # fmt: skip
            w = weights(masked, high, low)
            there = masked != float("-inf")
            seen += tl.sum(there.to(tl.int32), 0).to(tl.int64)
            if LARGEST:
                most = tl.maximum(most, tl.max(tl.where(there, w, -1.0), 0))
            else:
                total, lost = added(total, lost, tl.sum(w, 0))
    cell = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(Seen + cell, tl.sum(seen, 0))
    if LARGEST:
        tl.store(Largest + cell, tl.max(most, 0))
    else:
        tl.store(Sums + cell, tl.sum(total, 0))
