"""The column pass in Triton: each program has some keys of one head, and goes through the rows that see them.

So sums over queries need no atomic additions, and come out the same in every run.
"""

from __future__ import annotations

from sightline.backends.triton.language import tl, triton
from sightline.backends.triton.tiles import added, logits, rows_of, summand, weights


@triton.jit
def column_pass(
    Query, Key, Ranges, Visible, Bias, Slopes, Table, Offset, High, Low,
    query_b, query_h, query_n, query_d, key_b, key_g, key_m, key_d, range_b, range_h, range_n,
    visible_b, visible_h, visible_n, visible_m, bias_b, bias_h, bias_n, bias_m,
    slope_b, table_h, offset_b,
    scale, softcap, H, group, N, M, D, T,
    Hulls, hull_b, hull_h, Sums, Largest, X, Out, x_b, x_h, x_n, x_f, F, threshold,
    RANGES: tl.constexpr, VISIBLE: tl.constexpr, BIAS: tl.constexpr, SLOPES: tl.constexpr,
    TABLE: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr,
    FUNCTION: tl.constexpr, LARGEST: tl.constexpr, PRODUCT: tl.constexpr,
    PRODUCT_PRECISION: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Σ over queries of a function, each key's largest weight, or the transposed matrix times x [N,F].

    Args:
        Hulls: [1|B,1|H,blocks,2], the keys that any row of a block may see, where there are ranges.
    """
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    j = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    f = tl.program_id(2) * BLOCK_F + tl.arange(0, BLOCK_F)
    Ranges += b * range_b + h * range_h
    Visible += b * visible_b + h * visible_h
    Bias += b * bias_b + h * bias_h
    Slopes += b * slope_b + h
    Table += h * table_h
    Offset += b * offset_b
    Query += b * query_b + h * query_h
    Hulls += b * hull_b + h * hull_h
    High += (b * H + h) * N
    Low += (b * H + h) * N
    X += b * x_b + h * x_h
    k = rows_of(Key + b * key_b + (h // group) * key_g, j, key_m, key_d, M, D, BLOCK_D)
    sums = tl.zeros([BLOCK_M], tl.float32)
    lost = tl.zeros([BLOCK_M], tl.float32)
    largest = tl.full([BLOCK_M], -1.0, tl.float32)
    total = tl.zeros([BLOCK_M, BLOCK_F], tl.float32)
    for block in range(0, tl.cdiv(N, BLOCK_N)):
        first, last = 0, M
        if RANGES > 0:
            first = tl.load(Hulls + 2 * block)
            last = tl.load(Hulls + 2 * block + 1)
        if (first < (tl.program_id(0) + 1) * BLOCK_M) & (last > tl.program_id(0) * BLOCK_M):
            i = block * BLOCK_N + tl.arange(0, BLOCK_N)
            q = rows_of(Query, i, query_n, query_d, N, D, BLOCK_D)
            high = tl.load(High + i, mask=i < N, other=0.0)
            low = tl.load(Low + i, mask=i < N, other=0.0)
            masked = logits(
                q, k, i, j, b, h, Ranges, Visible, Bias, Slopes, Table, Offset,
                range_n, visible_n, visible_m, bias_n, bias_m, scale, softcap, N, M, T,
                RANGES, VISIBLE, BIAS, SLOPES, TABLE, SOFTCAP, PRECISION,
            )  # fmt: skip
            w = weights(masked, high, low)
            if FUNCTION >= 0:
                some = tl.sum(summand(w, masked, i, j, threshold, FUNCTION), 0)
                sums, lost = added(sums, lost, some)
            if LARGEST:
                largest = tl.maximum(largest, tl.max(tl.where(masked == float("-inf"), -1.0, w), 0))
            if PRODUCT:
                place = X + i.to(tl.int64)[:, None] * x_n + f[None, :] * x_f
                x = tl.load(place, mask=(i < N)[:, None] & (f < F)[None, :], other=0.0)
                total += tl.dot(tl.trans(w), x, input_precision=PRODUCT_PRECISION)
    column = (b * H + h) * M + j
    if FUNCTION >= 0:
        tl.store(Sums + column, sums, mask=j < M)
    if LARGEST:
        tl.store(Largest + column, largest, mask=j < M)
    if PRODUCT:
        tl.store(Out + column[:, None] * F + f[None, :], total, mask=(j < M)[:, None] & (f < F)[None, :])
