"""The key/value cache: decoding with it equals attention over everything at once."""

import pytest
import torch

import sightline
from cases import close
from sightline import reference
from sightline.nn import KVCache

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("capacity", [None, 40])
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (6, 2), (4, 1)])
def test_each_step_equals_causal_attention(dtype, capacity, heads, kv_heads):
    steps = [5, 1, 1, 3, 1, 29]
    total = sum(steps)
    query = torch.randn(2, heads, total, 16).to(dtype)
    key, value = torch.randn(2, 2, kv_heads, total, 16).to(dtype)
    wanted = reference.attention(query, key, value, mask=sightline.causal()).context
    cache, at = KVCache(capacity), 0
    for n in steps:
        here = slice(at, at + n)
        keys, values = cache.append(key[:, :, here], value[:, :, here])
        at += n
        assert len(cache) == at and keys.shape == (2, kv_heads, at, 16)
        assert torch.equal(keys, key[:, :, :at]) and torch.equal(values, value[:, :, :at])
        context = sightline.attention(query[:, :, here], keys, values, mask=sightline.causal())
        close(context, wanted[:, :, here], TOLERANCE[dtype])


def test_a_ragged_batch_equals_each_entry_alone():
    prompts, steps = [7, 0, 3], 6
    streams = [torch.randn(3, 1, 2, length + steps, 8) for length in prompts]  # query, key, value
    cache = KVCache()
    padded = torch.zeros(3, 3, 2, max(prompts), 8)
    for b, length in enumerate(prompts):
        padded[:, b, :, :length] = streams[b][:, 0, :, :length]
    start = torch.zeros(3, dtype=torch.int64)
    key, value = cache.append(padded[1], padded[2], lengths=prompts)
    contexts = [sightline.attention(padded[0], key, value, mask=sightline.causal(start))]
    assert cache.lengths.tolist() == prompts
    for step in range(steps):
        now = [s[:, 0, :, length + step, None] for s, length in zip(streams, prompts, strict=True)]
        query, key_step, value_step = torch.stack(now, 1)
        key, value = cache.append(key_step, value_step)
        contexts.append(sightline.attention(query, key, value, mask=sightline.lengths(cache.lengths)))
    for b, length in enumerate(prompts):
        query, key, value = streams[b]
        wanted = reference.attention(query, key, value, mask=sightline.causal()).context[0]
        close(contexts[0][b, :, :length], wanted[:, :length], 5e-6)
        close(torch.cat([context[b] for context in contexts[1:]], 1), wanted[:, length:], 5e-6)


def test_growth_copies_seldom():
    cache, rooms = KVCache(), []
    step = torch.randn(1, 1, 1, 4)
    for _ in range(1000):
        key, _ = cache.append(step, step)
        if not rooms or rooms[-1] != key.data_ptr():
            rooms.append(key.data_ptr())
    assert len(rooms) == 5  # 64, 128, 256, 512, 1024
    assert cache.capacity == 1024


def test_a_fixed_capacity_never_copies():
    cache = KVCache(capacity=1000)
    step = torch.randn(1, 1, 1, 4)
    assert len({cache.append(step, step)[0].data_ptr() for _ in range(1000)}) == 1
    with pytest.raises(ValueError, match="key: 1001 tokens .axis M. are beyond the cache's capacity of 1000"):
        cache.append(step, step)
    assert len(cache) == 1000


def test_a_long_first_step_is_held():
    cache = KVCache()
    long = torch.randn(1, 2, 100, 4)
    assert torch.equal(cache.append(long, long)[0], long)
    assert cache.capacity == 100


def test_rows_of_a_head_are_contiguous():
    cache = KVCache()
    step = torch.randn(2, 5, 3, 8).transpose(1, 2)  # heads inside, as a projection leaves them
    key, _ = cache.append(step, step)
    assert key.stride()[2:] == (8, 1)


@pytest.mark.parametrize("capacity", [None, 400])
def test_old_matrices_stay_as_they_were(capacity):
    cache, kept = KVCache(capacity), []
    for _ in range(70):
        query, key_step, value_step = torch.randn(3, 1, 2, 1, 8)
        key, value = cache.append(key_step, value_step)
        _, A = sightline.attention(query, key, value, return_matrix=True)
        kept.append((A, A.dense().clone(), key.clone()))
    for A, weights, key in kept:
        assert torch.equal(A.dense(), weights)
        assert torch.equal(A.problem.key, key)


def test_truncate_and_append_overwrites_and_matrices_notice():
    cache = KVCache()
    first, guess, right = torch.randn(3, 1, 1, 2, 4)
    cache.append(first, first)
    key, value = cache.append(guess, guess)
    _, A = sightline.attention(first, key, value, return_matrix=True)
    cache.truncate(2)
    assert len(cache) == 2 and torch.equal(cache.key, first)
    assert torch.equal(key[:, :, 2:], guess)
    A.dense()
    now, _ = cache.append(right, right)
    assert torch.equal(now, torch.cat([first, right], 2))
    assert torch.equal(key, now)
    with pytest.raises(RuntimeError, match="key: changed in place"):
        A.dense()


def test_truncate_entries_apart():
    cache = KVCache()
    rows = torch.randn(2, 1, 5, 4)
    cache.append(rows, rows, lengths=[5, 3])
    cache.truncate([2, 3])
    assert cache.lengths.tolist() == [2, 3] and len(cache) == 3
    cache.truncate(2)
    assert cache.lengths.tolist() == [2, 2]
    cache.truncate(0)
    assert len(cache) == 0


def test_reorder_for_beam_search():
    cache = KVCache()
    rows = torch.randn(3, 2, 4, 8)
    before, _ = cache.append(rows, rows + 1, lengths=[4, 2, 3])
    kept = before.clone()
    cache.reorder(torch.tensor([2, 2, 0, 1]))
    assert cache.lengths.tolist() == [3, 3, 4, 2]
    assert torch.equal(cache.key[2], rows[0])
    step = torch.randn(4, 2, 1, 8)
    key, value = cache.append(step, step)
    assert torch.equal(key[1, :, :3], rows[2, :, :3]) and torch.equal(key[1, :, 3:4], step[1])
    assert torch.equal(value[3, :, :2], rows[1, :, :2] + 1)
    assert torch.equal(before, kept)
    cache.reorder([])
    assert cache.key.shape[0] == 0


def test_reset_begins_anew():
    cache = KVCache()
    old, _ = cache.append(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4))
    cache.reset()
    assert len(cache) == 0 and cache.lengths.tolist() == []
    new, _ = cache.append(torch.zeros(3, 2, 1, 8).double(), torch.zeros(3, 2, 1, 8).double())
    assert new.shape == (3, 2, 1, 8) and new.dtype == torch.float64
    assert (old == 1).all()


def test_inference_mode_and_out_of_it():
    cache = KVCache()
    step = torch.randn(1, 1, 1, 4)
    with torch.inference_mode():
        cache.append(step.clone(), step.clone())
    cache.append(step, step)
    with torch.inference_mode():
        key, _ = cache.append(step.clone(), step.clone())
    assert torch.equal(key.clone(), step.expand(1, 1, 3, 4))


def test_gradients_reach_the_query():
    cache = KVCache()
    query, step = torch.randn(1, 1, 1, 4, requires_grad=True), torch.randn(1, 1, 1, 4)
    total = torch.zeros(())
    for _ in range(3):
        key, value = cache.append(step, step * 2)
        total = total + sightline.attention(query, key, value).sum()
    total.backward()
    assert query.grad.isfinite().all()


STEP = torch.randn(2, 3, 1, 4)
ERRORS = {
    "axes": (lambda c: c.append(STEP[0], STEP[0]), ValueError, r"key: expected 4 axes \[B,G,n,D\], got shape"),
    "no tensor": (lambda c: c.append(1, STEP), TypeError, "key: expected a tensor, got int"),
    "batch": (lambda c: c.append(STEP[:1], STEP[:1]), ValueError, r"key: 1 entries along axis B .* cache's 2"),
    "heads": (lambda c: c.append(STEP[:, :1], STEP[:, :1]), ValueError, "axis G .* differ from the cache's 3"),
    "width": (lambda c: c.append(STEP[..., :3], STEP), ValueError, "key: 3 entries along axis D .* cache's 4"),
    "value width": (lambda c: c.append(STEP, STEP[..., :3]), ValueError, "value: 3 entries along axis E"),
    "pairs": (lambda c: c.append(STEP, STEP.repeat(1, 1, 2, 1)), ValueError, "value: 2 entries along axis n .* 1"),
    "dtype": (lambda c: c.append(STEP.half(), STEP.half()), TypeError, "key: dtype torch.float16 differs from the"),
    "device": (lambda c: c.append(STEP.to("meta"), STEP.to("meta")), ValueError, "key: on meta, but the cache is on"),
    "gradients": (lambda c: c.append(STEP.clone().requires_grad_(), STEP), ValueError, "key: requires gradients"),
    "lengths": (lambda c: c.append(STEP, STEP, lengths=[0, 2]), ValueError, "lengths: 2 does not lie .* n=1"),
    "lengths batch": (lambda c: c.append(STEP, STEP, lengths=[1]), ValueError, "lengths: 1 numbers .* B=2"),
    "lengths floats": (lambda c: c.append(STEP, STEP, lengths=[1.0, 0.0]), TypeError, "lengths: expected integers"),
    "truncate": (lambda c: c.truncate(2), ValueError, "n: 2 does not lie between 0 and the cache's length M=1"),
    "truncate entry": (lambda c: c.truncate([0, -1]), ValueError, "n: -1 does not lie between 0 and M=1"),
    "reorder": (lambda c: c.reorder([0, 2]), ValueError, "indices: there is no entry 2 in a batch of B=2"),
    "capacity": (lambda c: KVCache(0), ValueError, "capacity: must be 1 or more, got 0"),
    "empty": (lambda c: KVCache().key, ValueError, "cache: nothing was appended yet"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, message = ERRORS[name]
    cache = KVCache()
    cache.append(STEP, STEP)
    with pytest.raises(kind, match=message):
        call(cache)
    assert cache.lengths.tolist() == [1, 1]
