"""A tile of the matrix in Triton: logits of some rows and columns, recomputed from query and key.

The rules are those of ``backends/block.py``, stage by stage. What every kernel takes is described once, in
``given.py``; here a tile is made of it. Whatever is hidden has the logit -inf, whatever it holds.
"""

from __future__ import annotations

from sightline.backends.triton.language import tl, triton


@triton.jit
def rows_of(at, n, stride_n, stride_d, N, D, BLOCK_D: tl.constexpr):
    """Rows n of [N,D] that begin at a pointer: [n,BLOCK_D], 0 beyond the ends."""
    d = tl.arange(0, BLOCK_D)
    place = at + n.to(tl.int64)[:, None] * stride_n + d[None, :] * stride_d
    return tl.load(place, mask=(n < N)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def tanh(x):
    """Hyperbolic tangent to float32's last bits: a series near 0, exponentials elsewhere."""
    s = x * x
    series = 1.0 + s * (
        -0.33333334 + s * (0.13333334 + s * (-0.053968254 + s * (0.021869488 - s * 0.008863236)))
    )
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    return tl.where(tl.abs(x) < 0.3, x * series, tl.where(x < 0, -far, far))


@triton.jit
def hull(Ranges, n, N, M, stride_n, RANGES: tl.constexpr):
    """The first and the last key, exclusive, that any of the rows may see."""
    low = tl.full(n.shape, 2147483647, tl.int32)
    high = tl.zeros(n.shape, tl.int32)
    for r in tl.static_range(RANGES):
        place = Ranges + n.to(tl.int64) * stride_n + 2 * r
        first = tl.load(place, mask=n < N, other=0)
        last = tl.load(place + 1, mask=n < N, other=0)
        some = first < last
        low = tl.where(some, tl.minimum(low, first), low)
        high = tl.where(some, tl.maximum(high, last), high)
    return tl.min(low, 0), tl.minimum(tl.max(high, 0), M)


@triton.jit
def logits(
    q, k, i, j, b, h,
    Ranges, Visible, Bias, Slopes, Table, Offset,
    range_n, visible_n, visible_m, bias_n, bias_m,
    scale, softcap, N, M, T,
    RANGES: tl.constexpr, VISIBLE: tl.constexpr, BIAS: tl.constexpr, SLOPES: tl.constexpr,
    TABLE: tl.constexpr, SOFTCAP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Masked logits of rows i and columns j, float32; the pointers are those of this batch entry and head."""
    x = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if SOFTCAP:
        x = softcap * tanh(x / softcap)
    seen = (i < N)[:, None] & (j < M)[None, :]
    if BIAS:
        place = Bias + i.to(tl.int64)[:, None] * bias_n + j.to(tl.int64)[None, :] * bias_m
        bias = tl.load(place, mask=seen, other=0.0).to(tl.float32)
        seen = seen & (bias != float("-inf"))
        x = x + bias
    if SLOPES or TABLE:
        step = j[None, :] - (i[:, None] + tl.load(Offset).to(tl.int32))
    if SLOPES:
        x = x - tl.load(Slopes).to(tl.float32) * tl.abs(step).to(tl.float32)
    if TABLE:
        radius = T // 2
        place = Table + tl.minimum(tl.maximum(step, -radius), radius) + radius
        entry = tl.load(place, mask=seen, other=0.0).to(tl.float32)
        seen = seen & (entry != float("-inf"))
        x = x + entry
    if RANGES > 0:
        inside = tl.zeros(x.shape, tl.int1)
        for r in tl.static_range(RANGES):
            place = Ranges + i.to(tl.int64) * range_n + 2 * r
            first = tl.load(place, mask=i < N, other=0)
            last = tl.load(place + 1, mask=i < N, other=0)
            inside = inside | ((j[None, :] >= first[:, None]) & (j[None, :] < last[:, None]))
        seen = seen & inside
    if VISIBLE:
        place = Visible + i.to(tl.int64)[:, None] * visible_n + j.to(tl.int64)[None, :] * visible_m
        seen = seen & (tl.load(place, mask=seen, other=0) != 0)
    return tl.where(seen, x, float("-inf"))


@triton.jit
def weights(masked, high, low):
    """exp(masked - lse) with each row's lse in two parts; 0 where hidden, in a row of NaN too."""
    w = tl.exp((masked - high[:, None]) - low[:, None])
    return tl.where(masked == float("-inf"), 0.0, w)


@triton.jit
def added(total, lost, x):
    """(total + x, what the sum lost so far): compensated, as rows and columns may be long."""
    y = x - lost
    t = total + y
    return t, (t - total) - y


@triton.jit
def ordered(masked, j):
    """A logit and its key as one integer, [n,m] int64: larger logits first, of equal ones the first key."""
    bits = tl.where(masked == masked, masked.to(tl.int32, bitcast=True), 2147483647)  # NaN comes first
    bits = tl.where(bits < 0, bits ^ 2147483647, bits)
    packed = (bits.to(tl.int64) << 32) | (2147483647 - j[None, :]).to(tl.int64)
    return tl.where(masked == float("-inf"), -9223372036854775807, packed)


@triton.jit
def summand(w, masked, i, j, threshold, FUNCTION: tl.constexpr):
    """A function of visible pairs, by its number in ``contract.FUNCTIONS``; 0 where hidden."""
    seen = masked != float("-inf")
    if FUNCTION == 0:
        x = w
    elif FUNCTION == 1:
        x = w * w
    elif FUNCTION == 2:
        x = masked
    elif FUNCTION == 3:
        x = w * masked
    elif FUNCTION == 4:
        x = w * tl.abs(i[:, None] - j[None, :]).to(tl.float32)
    else:
        x = (w > threshold).to(tl.float32)
    return tl.where(seen, x, 0.0)
