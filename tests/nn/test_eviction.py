"""Scores of a cache's keys and what is evicted by them: those of dense float64 weights, step by step."""

import pytest
import torch

import sightline
from cases import close
from nn.dense_cache import DenseCache
from sightline.models import Decoder, DecoderConfig, EncoderDecoder, EncoderDecoderConfig
from sightline.nn import DecoderCache, HeavyHitters, KVCache, LastQuery, Rotary, SelfAttention, SnapKV

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 3e-2}
KINDS = ["received", "last", "window"]


def left(cache):
    return [[[at for at in row if at >= 0] for row in entry] for entry in cache.positions.tolist()]


def same(cache, dense):
    """Both hold the same keys with the same scores."""
    assert left(cache) == dense.left()
    assert len(cache) == len(dense)
    for b, entry in enumerate(dense.left()):
        for g, row in enumerate(entry):
            close(cache.scores[b, g, : len(row)], dense.sums[b, g, row], 2e-5)
            assert torch.equal(cache.key[b, g, : len(row)], dense.key[b, g, row])
            assert torch.equal(cache.value[b, g, : len(row)], dense.value[b, g, row])


def steps_of(b, h, g, sizes, dtype, d=16):
    return [
        (torch.randn(b, h, n, d).to(dtype), *torch.randn(2, b, g, n, d).to(dtype)) for n in sizes
    ]  # query, key, value


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (6, 2), (4, 1)])
def test_steps_equal_dense_weights(wing, dtype, kind, heads, kv_heads):
    cache, dense = KVCache(scores=kind, window=4), DenseCache(kind, 4)
    for query, key, value in steps_of(2, heads, kv_heads, [21, 1, 1, 3, 1, 1, 12, 1], dtype):
        contexts = []
        for each in (cache, dense):
            mask = sightline.causal(each.start)
            each.append(key, value)
            contexts.append(each.attend(query, mask=mask))
            each.evict(None, 13, recent=3, sinks=1)
        close(contexts[0], contexts[1].double(), TOLERANCE[dtype])
        same(cache, dense)
    assert len(cache) == 13
    assert cache.start == 41


MASKS = {
    "window": lambda start: sightline.window(6, 0, start),
    "window or prefix": lambda start: sightline.window(4, 0, start) | sightline.prefix(2),
    "window and dense": lambda start: sightline.window(9, 0, start) & torch.tensor(True),
}
BIASES = {
    "alibi": lambda start, length: sightline.alibi(torch.tensor([0.5, 0.1, 0.2, 1.0]), start),
    "relative": lambda start, length: sightline.relative(torch.linspace(-2, 2, 4 * 15).view(4, 15), start),
    "dense": lambda start, length: torch.arange(float(length)).sin(),
    "one number": lambda start, length: torch.tensor([0.5]),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", BIASES)
def test_masks_and_biases_go_on_speaking_of_positions(mask, bias):
    cache, dense = KVCache(scores="received"), DenseCache("received")
    for query, key, value in steps_of(1, 4, 2, [15, 1, 4, 1, 11, 1], torch.float32):
        contexts = []
        for each in (cache, dense):
            start = each.start
            each.append(key, value)
            given = {"mask": MASKS[mask](start), "bias": BIASES[bias](start, each.start)}
            contexts.append(each.attend(query, **given))
            each.evict(None, 8, recent=2)
        close(contexts[0], contexts[1].double(), 5e-6)
        same(cache, dense)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_batches(kind):
    """Prompts of other lengths, one entry that is short of what is kept, a step that an entry sits out."""
    cache, dense = KVCache(scores=kind, window=3), DenseCache(kind, 3)
    lengths = [[17, 4, 0], [1, 1, 1], [1, 0, 1], [3, 1, 2], [1, 1, 1], [5, 5, 5]]
    sizes = [max(step) for step in lengths]
    for own, (query, key, value) in zip(lengths, steps_of(3, 4, 2, sizes, torch.float32), strict=True):
        contexts = []
        for each in (cache, dense):
            start = each.start
            each.append(key, value, lengths=own)
            contexts.append(each.attend(query, mask=sightline.causal(start)))
            each.evict(None, 7, recent=2, sinks=1)
        for b, count in enumerate(own):
            close(contexts[0][b, :, :count], contexts[1][b, :, :count].double(), 5e-6)
        same(cache, dense)
    assert cache.lengths.tolist() == [7, 7, 7]
    assert cache.start.tolist() == [28, 12, 10]


def test_a_layer_with_rotary_positions_goes_on_at_the_true_one():
    layer = SelfAttention(24, 4, kv_heads=2, rotary=Rotary(6)).eval()
    cache, dense = KVCache(scores="last"), DenseCache("last")
    with torch.no_grad():
        for n in (12, 1, 1, 5, 1):
            x = torch.randn(2, n, 24)
            outputs = []
            for each in (cache, dense):
                outputs.append(layer(x, mask=sightline.window(8, 0, each.start), cache=each))
                each.evict(None, 6)
            close(outputs[0], outputs[1].double(), 5e-6)
            same(cache, dense)


MODELS = [{"positions": "rotary"}, {"positions": "alibi"}, {"positions": "learned", "window": 12}]
RULES = [
    HeavyHitters(9, recent=3), HeavyHitters(8, sinks=2, slack=5), LastQuery(9), LastQuery(9, together=False),
    SnapKV(10, window=4), SnapKV(10, window=4, kernel=3, pool="max", sinks=1),
]  # fmt: skip


def model_of(**more):
    config = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "vocabulary": 30}
    model = Decoder(DecoderConfig(**config, **more)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


PAIRS = [
    *((MODELS[0], rule) for rule in RULES),
    (MODELS[1], RULES[0]),
    (MODELS[1], RULES[4]),
    (MODELS[2], RULES[1]),
]


@pytest.mark.parametrize("model, rule", PAIRS, ids=str)
def test_generation_equals_that_with_dense_weights(model, rule, monkeypatch):
    model, ids = model_of(**model), torch.randint(30, (3, 20))
    options = {"new_tokens": 14, "evict": rule, "lengths": [20, 12, 5]}
    ours = model.generate(ids, **options)

    def dense(capacity=None):
        cache = DecoderCache(2)
        cache.self_attention = [DenseCache(), DenseCache()]
        return cache

    monkeypatch.setattr(model, "make_cache", dense)
    theirs = model.generate(ids, **options)
    assert torch.equal(ours.tokens, theirs.tokens)
    close(ours.scores, theirs.scores.double(), 1e-4)
    monkeypatch.undo()
    assert not torch.equal(ours.scores, model.generate(ids, **options | {"evict": None}).scores)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("rule", [HeavyHitters(34, recent=1), LastQuery(40), SnapKV(40, window=8)], ids=str)
def test_where_all_is_kept_generation_is_as_without(rule, beams):
    model, ids = model_of(positions="rotary"), torch.randint(30, (2, 20))
    options = {"new_tokens": 14, "lengths": [20, 7], "beams": beams}
    ours, plain = model.generate(ids, evict=rule, **options), model.generate(ids, **options)
    assert torch.equal(ours.tokens, plain.tokens)
    close(ours.scores, plain.scores.double(), 1e-5)


def test_caches_stay_bounded_while_generating():
    model, seen = model_of(positions="rotary"), []

    class Watched(HeavyHitters):
        def __call__(self, cache, prompt):
            super().__call__(cache, prompt)
            seen.append((len(cache), cache.capacity, cache.start, prompt))

    model.generate(torch.randint(30, (1, 100)), new_tokens=30, evict=Watched(20))
    assert [length for length, _, _, _ in seen] == [20] * 60
    assert max(capacity for _, capacity, _, _ in seen) == 84
    assert [start for _, _, start, _ in seen[::2]] == list(range(100, 130))
    assert [prompt for _, _, _, prompt in seen] == [True] * 2 + [False] * 58


def test_encoders_and_decoders_evict_what_the_decoder_wrote():
    config = EncoderDecoderConfig(width=16, heads=2, layers=1, vocabulary=9, positions="rotary", start=1)
    model, source = EncoderDecoder(config), torch.randint(9, (2, 6))
    written = model.generate(source, new_tokens=12, evict=HeavyHitters(4), beams=2)
    assert written.tokens.shape == (2, 12)


def filled_cache(n=10, **options):
    cache = KVCache(**options)
    rows = torch.randn(2, 3, n, 4)
    cache.append(rows, rows + 1)
    return cache, rows


def test_evict_keeps_order_and_leaves_old_views_alone():
    cache, rows = filled_cache()
    before = cache.key
    scores = torch.rand(2, 3, 10)
    kept = cache.evict(scores, 4)
    wanted = scores.topk(4).indices.sort(-1).values
    assert torch.equal(kept, wanted)
    assert torch.equal(cache.key, rows.gather(2, wanted[..., None].expand(-1, -1, -1, 4)))
    assert torch.equal(cache.value, cache.key + 1)
    assert torch.equal(cache.positions, wanted)
    assert torch.equal(before, rows)
    more = torch.randn(2, 3, 2, 4)
    cache.append(more, more)
    assert torch.equal(before, rows)
    assert torch.equal(cache.positions[:, :, 4:], torch.tensor([10, 11]).expand(2, 3, 2))
    # Rows are counted as they lie, positions as they stood.
    again = cache.evict(torch.arange(6.0), 3, sinks=1)
    first = (wanted[:, :, 0] == 0)[..., None]
    assert torch.equal(again, torch.where(first, torch.tensor([0, 4, 5]), torch.tensor([3, 4, 5])))
    assert torch.equal(cache.positions[:, :, 1:], torch.tensor([10, 11]).expand(2, 3, 2))
    assert cache.start == 12


def test_recent_sinks_and_ties():
    cache, _ = filled_cache()
    scores = torch.tensor([0.0, 9, 1, 1, 1, 5, 0, 0, 0, 0])
    assert cache.evict(scores, 5, recent=2, sinks=1)[0, 0].tolist() == [0, 1, 5, 8, 9]
    cache, _ = filled_cache()
    assert cache.evict(scores, 4)[1, 2].tolist() == [1, 3, 4, 5]  # of equal ones the later stay
    cache, _ = filled_cache()
    assert cache.evict(torch.full((10,), torch.inf), 3, sinks=1)[0, 1].tolist() == [0, 8, 9]
    cache, _ = filled_cache()
    assert cache.evict(torch.full((10,), -torch.inf), 3, sinks=1)[0, 1].tolist() == [0, 8, 9]


def test_where_all_fit_nothing_happens():
    cache, rows = filled_cache()
    place = cache.key.data_ptr()
    assert torch.equal(cache.evict(torch.zeros(10), 10), torch.arange(10).expand(2, 3, 10))
    assert cache.key.data_ptr() == place
    assert not cache.evicted
    cache = KVCache()
    cache.append(rows, rows, lengths=[10, 4])
    kept = cache.evict(torch.zeros(10), 11)
    assert kept[1, 0].tolist() == [0, 1, 2, 3, -1, -1, -1, -1, -1, -1]
    kept = cache.evict(torch.zeros(10), 6)
    assert kept[:, 0].tolist() == [[4, 5, 6, 7, 8, 9], [0, 1, 2, 3, -1, -1]]
    assert cache.positions[1, 0].tolist() == [0, 1, 2, 3, -1, -1]
    assert not cache.key[1, :, 4:].any()


def test_truncate_and_reorder_after_an_eviction():
    cache, _ = filled_cache(scores="received")
    cache.evict(torch.rand(2, 3, 10), 4)
    step = torch.randn(2, 3, 3, 4)
    cache.append(step, step)
    cache.truncate(11)
    assert len(cache) == 5
    assert cache.start == 11
    with pytest.raises(
        ValueError, match="n: 9 tokens of entry 0, but of its first 10 .axis M. each head has"
    ):
        cache.truncate(9)
    with pytest.raises(ValueError, match="n: 12 does not lie between 0 and the cache's length M=11"):
        cache.truncate(12)
    places, key = cache.positions, cache.key.clone()
    cache.reorder([1, 0, 1])
    assert torch.equal(cache.positions, places[[1, 0, 1]])
    assert torch.equal(cache.key, key[[1, 0, 1]])
    assert cache.scores.shape == (3, 3, 5)
    cache.truncate([11, 10, 11])
    assert cache.start.tolist() == [11, 10, 11]
    cache.reset()
    assert cache.start == 0
    assert not cache.evicted


def test_a_fixed_capacity_counts_what_is_there():
    cache = KVCache(capacity=8)
    for _ in range(20):
        cache.append(*torch.randn(2, 1, 2, 1, 4))
        cache.evict(torch.rand(1, 2, len(cache)), 7)
    assert len(cache) == 7
    assert cache.capacity == 8
    cache.append(*torch.randn(2, 1, 2, 1, 4))
    with pytest.raises(ValueError, match="key: 9 tokens .axis M. are beyond the cache's capacity of 8"):
        cache.append(*torch.randn(2, 1, 2, 1, 4))


def test_in_inference_mode_float64_and_with_the_matrix():
    with torch.inference_mode():
        cache, dense = KVCache(scores="received"), DenseCache("received")
        for query, key, value in steps_of(1, 4, 2, [9, 1, 1], torch.float64):
            for each in (cache, dense):
                each.append(key, value)
            plain = dense.attend(query, mask=sightline.causal())
            context, A = cache.attend(query, mask=sightline.causal(), return_matrix=True)
            close(context, plain, 1e-12)
            assert A.shape == (1, 4, query.shape[2], len(cache))
            assert cache.scores.dtype == torch.float64
            same(cache, dense)
            for each in (cache, dense):
                each.evict(None, 5)


def test_under_a_profiler_scores_are_the_same():
    steps, found = steps_of(1, 4, 2, [9, 1], torch.float32), []
    for listening in (False, True):
        cache = KVCache(scores="received")
        with torch.profiler.profile() if listening else torch.no_grad():
            for query, key, value in steps:
                cache.append(key, value)
                cache.attend(query)
        found.append(cache.scores)
    close(found[0], found[1].double(), 1e-6)


def test_what_is_refused():
    cache, _ = filled_cache()
    for scores, error, message in (
        (None, ValueError, "scores: this cache keeps none"),
        (torch.zeros(2, 3, 9), ValueError, r"scores: shape \[2, 3, 9\] does not broadcast"),
        (torch.zeros(10).long(), TypeError, "scores: expected a floating dtype, got torch.int64"),
        ([0.0] * 10, TypeError, "scores: expected a tensor"),
        (torch.full((10,), torch.nan), ValueError, "scores: NaN among them"),
    ):
        with pytest.raises(error, match=message):
            cache.evict(scores, 4)
    scores = torch.zeros(10)
    with pytest.raises(ValueError, match="keep: must be 1 or more, got 0"):
        cache.evict(scores, 0)
    with pytest.raises(ValueError, match="keep: 4 keys are fewer than recent=3 and sinks=2 together"):
        cache.evict(scores, 4, recent=3, sinks=2)
    with pytest.raises(TypeError, match="recent: must be an integer"):
        cache.evict(scores, 4, recent=1.5)
    assert len(cache) == 10
    assert not cache.evicted
    with pytest.raises(ValueError, match="cache: nothing was appended yet"):
        KVCache().evict(scores, 4)
    with pytest.raises(ValueError, match="scores: there is no 'h2o'; known: received, last, window"):
        KVCache(scores="h2o")
    with pytest.raises(ValueError, match="scores: what was appended has none"):
        cache.keep_scores("last")
    cache, rows = filled_cache(scores="received")
    with pytest.raises(
        ValueError, match="query: 3 queries .axis N., but the step that was appended last has n=10"
    ):
        cache.attend(torch.randn(2, 3, 3, 4))


def test_what_rules_refuse():
    for make, message in (
        (lambda: HeavyHitters(0), "keep: must be 1 or more"),
        (lambda: HeavyHitters(8, recent=9), "keep: 8 keys are fewer than recent=9 and sinks=0"),
        (lambda: LastQuery(4, sinks=5), "keep: 4 keys are fewer"),
        (lambda: SnapKV(8), "keep: 8 keys are fewer than window=32"),
        (lambda: SnapKV(64, kernel=4), "kernel: must be odd"),
        (lambda: SnapKV(64, pool="sum"), "pool: there is no 'sum'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="evict: must be an EvictionRule, as HeavyHitters is, got 5"):
        model_of(positions="rotary").generate(torch.zeros(1, 3).long(), evict=5)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_weights_that_an_intervention_changed(kind):
    layer, cache = SelfAttention(16, 2).eval(), KVCache(scores=kind, window=2)
    with torch.no_grad(), sightline.intervene(layer) as change:
        change.block(layer=0, keys=[2])
        for n in (6, 1):
            x = torch.randn(1, n, 16)
            _, A = layer(x, cache=cache, mask=sightline.causal(), return_matrix=True)
            assert not A.received()[0, :, 2].any()
    assert not cache.scores[0, :, 2].any()
    assert cache.scores[0, :, 1].all()
