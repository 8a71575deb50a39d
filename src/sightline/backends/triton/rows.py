"""The row pass in Triton: each program has some rows of one head, and goes through the keys they may see."""

from __future__ import annotations

from sightline.backends.triton.language import tl, triton
from sightline.backends.triton.tiles import added, hull, logits, ordered, rows_of, summand, weights


@triton.jit
def with_exponentials(most, total, x):
    """The largest logit of each row so far and Σ exp(logit - largest), with those of a tile."""
    larger = tl.maximum(most, tl.max(x, 1))
    shift = tl.where(larger == float("-inf"), 0.0, larger)
    of_keys = tl.where(x == float("-inf"), 0.0, tl.exp(x - shift[:, None]))
    before = total * tl.where(most == float("-inf"), 0.0, tl.exp(most - shift))
    return larger, before + tl.sum(of_keys, 1)


@triton.jit
def with_larger(top, packed):
    """The largest of each row so far [n,K] and of a tile [n,m]; packed, so no two are equal."""
    largest = tl.max(packed, 1)
    least = tl.min(top, 1)
    # As long as a tile holds more than a row has: few do, once some keys were seen.
    while tl.max((largest > least).to(tl.int32), 0) > 0:
        comes = (largest > least)[:, None]
        top = tl.where(comes & (top == least[:, None]), largest[:, None], top)
        packed = tl.where(comes & (packed == largest[:, None]), -9223372036854775807, packed)
        largest = tl.max(packed, 1)
        least = tl.min(top, 1)
    return top


@triton.jit
def store_if(WANTED: tl.constexpr, place, values, there):
    """Nothing where it is not wanted, as its pointer then is another tensor's."""
    if WANTED:
        tl.store(place, values, mask=there)


@triton.jit
def row_pass(
    Query, Key, Ranges, Visible, Bias, Slopes, Table, Offset, High, Low,
    query_b, query_h, query_n, query_d, key_b, key_g, key_m, key_d, range_b, range_h, range_n,
    visible_b, visible_h, visible_n, visible_m, bias_b, bias_h, bias_n, bias_m,
    slope_b, table_h, offset_b,
    scale, softcap, H, group, N, M, D, T,
    Entropy, Sums, Distance, Steps, Best, Top, LseTop, LseSum, steps_b, threshold,
    RANGES: tl.constexpr, VISIBLE: tl.constexpr, BIAS: tl.constexpr, SLOPES: tl.constexpr,
    TABLE: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr,
    ENTROPY: tl.constexpr, FUNCTION: tl.constexpr, DISTANCE: tl.constexpr, BEST: tl.constexpr,
    K: tl.constexpr, LSE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Entropy, a sum over keys, distance, the largest logits with their keys, or the lse itself: [B,H,N,...].

    What is not wanted costs nothing: the flags are constants of the compiled kernel.
    """
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    Ranges += b * range_b + h * range_h
    Visible += b * visible_b + h * visible_h
    Bias += b * bias_b + h * bias_h
    Slopes += b * slope_b + h
    Table += h * table_h
    Offset += b * offset_b
    Key += b * key_b + (h // group) * key_g
    q = rows_of(Query + b * query_b + h * query_h, i, query_n, query_d, N, D, BLOCK_D)
    row = (b * H + h) * N + i
    first, last = 0, M
    if RANGES > 0:
        first, last = hull(Ranges, i, N, M, range_n, RANGES)
    if not LSE:
        high = tl.load(High + row, mask=i < N, other=0.0)
        low = tl.load(Low + row, mask=i < N, other=0.0)
    zero = tl.zeros([BLOCK_N], tl.float32)
    entropy, entropy_lost, sums, sums_lost, distance, distance_lost = zero, zero, zero, zero, zero, zero
    best = tl.full([BLOCK_N], -9223372036854775807, tl.int64)
    top = tl.full([BLOCK_N, K], -9223372036854775807, tl.int64) + 1 + tl.arange(0, K)[None, :].to(tl.int64)
    most, total = tl.full([BLOCK_N], float("-inf"), tl.float32), zero
    for start in range(first // BLOCK_M * BLOCK_M, last, BLOCK_M):
        j = start + tl.arange(0, BLOCK_M)
        k = rows_of(Key, j, key_m, key_d, M, D, BLOCK_D)
        x = logits(
            q, k, i, j, b, h, Ranges, Visible, Bias, Slopes, Table, Offset,
            range_n, visible_n, visible_m, bias_n, bias_m, scale, softcap, N, M, T,
            RANGES, VISIBLE, BIAS, SLOPES, TABLE, SOFTCAP, PRECISION,
        )  # fmt: skip
        if LSE:
            most, total = with_exponentials(most, total, x)
        if ENTROPY or DISTANCE or FUNCTION >= 0:
            w = weights(x, high, low)
        if ENTROPY:
            logs = tl.where(w == 0.0, 0.0, (x - high[:, None]) - low[:, None])
            entropy, entropy_lost = added(entropy, entropy_lost, -tl.sum(w * logs, 1))
        if FUNCTION >= 0:
            some = tl.sum(summand(w, x, i, j, threshold, FUNCTION), 1)
            sums, sums_lost = added(sums, sums_lost, some)
        if DISTANCE:
            steps = tl.abs(i[:, None] + tl.load(Steps + b * steps_b).to(tl.int32) - j[None, :])
            distance, distance_lost = added(distance, distance_lost, tl.sum(w * steps.to(tl.float32), 1))
        if BEST or K > 1:
            packed = ordered(x, j)
        if BEST:
            best = tl.maximum(best, tl.max(packed, 1))
        if K > 1:
            top = with_larger(top, packed)
    store_if(ENTROPY, Entropy + row, entropy, i < N)
    store_if(FUNCTION >= 0, Sums + row, sums, i < N)
    store_if(DISTANCE, Distance + row, distance, i < N)
    store_if(BEST, Best + row, best, i < N)
    store_if(K > 1, Top + row[:, None] * K + tl.arange(0, K)[None, :], top, (i < N)[:, None])
    store_if(LSE, LseTop + row, most, i < N)
    store_if(LSE, LseSum + row, total, i < N)


@triton.jit
def row_product(
    Query, Key, Ranges, Visible, Bias, Slopes, Table, Offset, High, Low,
    query_b, query_h, query_n, query_d, key_b, key_g, key_m, key_d, range_b, range_h, range_n,
    visible_b, visible_h, visible_n, visible_m, bias_b, bias_h, bias_n, bias_m,
    slope_b, table_h, offset_b,
    scale, softcap, H, group, N, M, D, T,
    X, Out, x_b, x_h, x_m, x_f, F,
    RANGES: tl.constexpr, VISIBLE: tl.constexpr, BIAS: tl.constexpr, SLOPES: tl.constexpr,
    TABLE: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr,
    SEGMENTS: tl.constexpr, PRODUCT_PRECISION: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """The matrix times x [M,F]; with SEGMENTS x [M] says for each key the column in which it has a 1."""
    b = (tl.program_id(1) // H).to(tl.int64)
    h = (tl.program_id(1) % H).to(tl.int64)
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    f = tl.program_id(2) * BLOCK_F + tl.arange(0, BLOCK_F)
    Ranges += b * range_b + h * range_h
    Visible += b * visible_b + h * visible_h
    Bias += b * bias_b + h * bias_h
    Slopes += b * slope_b + h
    Table += h * table_h
    Offset += b * offset_b
    Key += b * key_b + (h // group) * key_g
    X += b * x_b + h * x_h
    q = rows_of(Query + b * query_b + h * query_h, i, query_n, query_d, N, D, BLOCK_D)
    row = (b * H + h) * N + i
    high = tl.load(High + row, mask=i < N, other=0.0)
    low = tl.load(Low + row, mask=i < N, other=0.0)
    first, last = 0, M
    if RANGES > 0:
        first, last = hull(Ranges, i, N, M, range_n, RANGES)
    total = tl.zeros([BLOCK_N, BLOCK_F], tl.float32)
    for start in range(first // BLOCK_M * BLOCK_M, last, BLOCK_M):
        j = start + tl.arange(0, BLOCK_M)
        k = rows_of(Key, j, key_m, key_d, M, D, BLOCK_D)
        masked = logits(
            q, k, i, j, b, h, Ranges, Visible, Bias, Slopes, Table, Offset,
            range_n, visible_n, visible_m, bias_n, bias_m, scale, softcap, N, M, T,
            RANGES, VISIBLE, BIAS, SLOPES, TABLE, SOFTCAP, PRECISION,
        )  # fmt: skip
        if SEGMENTS:
            segment = tl.load(X + j.to(tl.int64) * x_m, mask=j < M, other=-1).to(tl.int32)
            x = (segment[:, None] == f[None, :]).to(tl.float32)
        else:
            place = X + j.to(tl.int64)[:, None] * x_m + f[None, :] * x_f
            x = tl.load(place, mask=(j < M)[:, None] & (f < F)[None, :], other=0.0)
        total += tl.dot(weights(masked, high, low), x, input_precision=PRODUCT_PRECISION)
    tl.store(Out + row[:, None] * F + f[None, :], total, mask=(i < N)[:, None] & (f < F)[None, :])
