"""Every public callable, and of which kind each of its arguments is."""

from dataclasses import fields
from typing import Any, NamedTuple, get_args, get_type_hints

import torch

import sightline
from arguments.kinds import (
    ALIGN,
    EACH,
    FLAG,
    INTEGER,
    NATURAL,
    NUMBER,
    OPTIONAL_NATURAL,
    OPTIONAL_SIZE,
    PATH,
    POSITIVE,
    SHARE,
    SIZE,
    Kind,
    choice,
    floating,
    ids,
)
from sightline import losses, measure, models, nn


class Entry(NamedTuple):
    """A callable with arguments that it takes, and the kinds of those that are tried."""

    call: Any
    given: dict[str, Any]
    kinds: dict[str, Kind]


TENSORS = dict(zip(("query", "key", "value"), torch.randn(3, 2, 4, 5, 8), strict=True))
A = sightline.AttentionMatrix(*torch.randn(3, 2, 2, 5, 4), mask=sightline.causal())
IDS = torch.tensor([1, 2, 1, 2, 1])
X, MEMORY = torch.randn(2, 5, 8), torch.randn(2, 7, 8)

DENSE = Kind((True, "causal", 1.0, [[True]], torch.ones(5, 5), torch.ones(5, 5).bool().to_sparse()))
BIAS = Kind(
    (
        True,
        "alibi",
        1.0,
        [[0.0]],
        torch.ones(5, 5).bool(),
        torch.ones(5, 5).to_sparse(),
        torch.ones(5, 5) * 1j,
    )
)
QUERIES = Kind((True, [True] * 5, torch.ones(5), torch.ones(4).bool()))
KEYS = Kind(
    (True, 1.5, -1, "first", [0.5], {1}, [7], slice("a"), torch.tensor([0.0, 1.0]), torch.ones(4).bool()),
    ((torch.tensor(3), 3), ([0, 1], torch.tensor([0, 1])), (2**40, slice(None))),
)
TOKENS = Kind((3, "abcde", [1, 2, 1, 2, 1], IDS.float(), IDS > 1, IDS[:3], IDS.to_sparse()))
TARGETS = Kind(
    (True, 1.5, "0", None, [0.5], [], [9], {1}, 9), (([0, 1], torch.tensor([0, 1])), (torch.tensor(3), 3))
)
HEADS = Kind((0, 1.5, "ab", [1.5], [True], {0}, [9], []), ((torch.tensor([1]), [1]),))
NO_MATRIX = Kind((None, 3, "x", torch.zeros(2, 2, 5, 5)))

MASKS = {
    "causal": Entry(sightline.causal, {}, {"align": ALIGN}),
    "window": Entry(
        sightline.window, {"left": 1, "right": 1}, {"left": OPTIONAL_NATURAL, "right": OPTIONAL_NATURAL, "align": ALIGN}
    ),
    "prefix": Entry(sightline.prefix, {}, {"n": NATURAL.without(torch.Tensor)}),
    "lengths": Entry(sightline.lengths, {}, {"kv_lengths": EACH}),
    "ranges": Entry(
        sightline.ranges, {"lo": 0, "hi": 3}, {"lo": INTEGER.without(torch.Tensor), "hi": INTEGER.without(torch.Tensor)}
    ),
    "documents": Entry(
        sightline.documents, {"ids": IDS.sort().values},
        {"ids": TOKENS.without(torch.Tensor).also(None, IDS.float(), IDS > 1), "key_ids": TOKENS.without(torch.Tensor)},
    ),
    "dense": Entry(sightline.dense, {}, {"tensor": DENSE.also(None)}),
    "alibi": Entry(sightline.alibi, {"slopes": torch.ones(4)}, {"slopes": BIAS.also(None), "align": ALIGN}),
    "relative": Entry(sightline.relative, {"table": torch.ones(4, 3)}, {"table": BIAS.also(None), "align": ALIGN}),
}  # fmt: skip

CALLS = {
    name: Entry(
        call, TENSORS,
        {
            "query": floating(2, 4, 5, 8), "key": floating(2, 4, 5, 8), "value": floating(2, 4, 5, 8).without(),
            "mask": DENSE, "bias": BIAS, "dropout": SHARE, "sinks": BIAS,
        },
    )
    for name, call in (("attention", sightline.attention), ("explain", sightline.explain))
}  # fmt: skip
for entry in CALLS.values():  # a value may have a width of its own
    entry.kinds["value"] = Kind(entry.kinds["value"].refused[1:-1])
    entry.kinds["query"] = Kind(entry.kinds["query"].refused[:-2] + entry.kinds["query"].refused[-1:])

_PROJECTIONS = {"width": SIZE, "heads": SIZE, "kv_heads": OPTIONAL_SIZE, "bias": FLAG, "dropout": SHARE}
_BLOCK = {
    **{name: kind for name, kind in _PROJECTIONS.items() if name != "dropout"},
    "hidden": OPTIONAL_SIZE, "activation": choice(), "norm": choice(), "norm_first": FLAG,
    "norm_eps": NUMBER.also(-1), "dropout": SHARE, "attention_dropout": SHARE, "rotary": Kind((3, "x", True)),
}  # fmt: skip
_WIDE = {"width": 3, "heads": 3}

LAYERS = {
    "alibi_slopes": Entry(nn.alibi_slopes, {}, {"heads": SIZE}),
    "Alibi": Entry(nn.Alibi, {}, {"heads": SIZE}),
    "sinusoidal": Entry(nn.sinusoidal, {"length": 3, "width": 4}, {"length": NATURAL, "width": Kind(SIZE.refused)}),
    "SinusoidalPositions": Entry(
        nn.SinusoidalPositions, {"width": 4}, {"width": Kind(SIZE.refused), "interleaved": FLAG}
    ),
    "LearnedPositions": Entry(nn.LearnedPositions, {"length": 3, "width": 4}, {"length": SIZE, "width": SIZE}),
    "RelativePositions": Entry(
        nn.RelativePositions, {"heads": 2, "buckets": 4, "max_distance": 9},
        {"heads": SIZE, "buckets": Kind(SIZE.refused), "max_distance": SIZE, "bidirectional": FLAG},
    ),
    "Rotary": Entry(
        nn.Rotary, {"width": 4},
        {"width": Kind(SIZE.refused), "theta": POSITIVE, "scaling": POSITIVE, "interleaved": FLAG, "share": SHARE},
    ),
    "FeedForward": Entry(
        nn.FeedForward, {"width": 4}, {"width": SIZE, "hidden": OPTIONAL_SIZE, "activation": choice(), "bias": FLAG}
    ),
    "ConvolutionModule": Entry(
        nn.ConvolutionModule, {"width": 4, "kernel": 3}, {"width": SIZE, "kernel": SIZE, "dropout": SHARE}
    ),
    "SelfAttention": Entry(nn.SelfAttention, _WIDE, {**_PROJECTIONS, "rotary": Kind((3, "x", nn.Rotary(4)))}),
    "CrossAttention": Entry(nn.CrossAttention, _WIDE, {**_PROJECTIONS, "memory_width": OPTIONAL_SIZE}),
    "MultiheadAttention": Entry(
        nn.MultiheadAttention, {"embed_dim": 3, "num_heads": 3},
        {
            "embed_dim": SIZE, "num_heads": SIZE, "kdim": OPTIONAL_SIZE, "vdim": OPTIONAL_SIZE, "dropout": SHARE,
            **dict.fromkeys(("bias", "add_bias_kv", "add_zero_attn", "batch_first"), FLAG),
        },
    ),
    "TransformerBlock": Entry(
        nn.TransformerBlock, _WIDE, {**_BLOCK, "cross_attention": FLAG, "memory_width": Kind(())}
    ),
    "TransformerEncoder": Entry(
        nn.TransformerEncoder, {"layers": 1, "window": 2, **_WIDE},
        {
            **_BLOCK, "layers": NATURAL, "window": OPTIONAL_SIZE, "global_every": OPTIONAL_SIZE,
            "positions": Kind((3, "alibi", nn.Rotary(2))),
        },
    ),
    "TransformerDecoder": Entry(
        nn.TransformerDecoder, {"layers": 1, "window": 2, **_WIDE},
        {
            **_BLOCK, "layers": NATURAL, "window": OPTIONAL_SIZE, "global_every": OPTIONAL_SIZE,
            "positions": Kind((3, "alibi", nn.Rotary(2))),
            "cross_attention": FLAG,
        },
    ),
    "KVCache": Entry(nn.KVCache, {}, {"capacity": OPTIONAL_SIZE, "scores": choice(None), "window": SIZE}),
    "DecoderCache": Entry(
        nn.DecoderCache, {"layers": 1},
        {
            "layers": Kind(NATURAL.refused), "capacity": Kind(OPTIONAL_SIZE.refused),
            "scores": choice(None), "window": Kind(SIZE.refused),
        },
    ),
    "HeavyHitters": Entry(
        nn.HeavyHitters, {"keep": 8},
        {"keep": SIZE, "recent": OPTIONAL_NATURAL.also(9), "sinks": NATURAL.also(9), "slack": NATURAL},
    ),
    "LastQuery": Entry(
        nn.LastQuery, {"keep": 8},
        {"keep": SIZE, "together": FLAG, "recent": NATURAL.also(9), "sinks": NATURAL.also(9), "slack": NATURAL},
    ),
    "SnapKV": Entry(
        nn.SnapKV, {"keep": 40},
        {
            "keep": Kind(SIZE.refused), "window": SIZE.also(41), "kernel": SIZE.also(4), "pool": choice(),
            "sinks": NATURAL.also(9),
        },
    ),
    "MeanOverHeads": Entry(nn.MeanOverHeads, {}, {"matrix": NO_MATRIX}),
}  # fmt: skip


def cached(**given: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return nn.KVCache().append(**{"key": torch.zeros(2, 2, 5, 4), "value": torch.zeros(2, 2, 5, 4), **given})


def after(method: str, **given: Any) -> list[int]:
    """The lengths of a cache after one of its methods."""
    cache = nn.KVCache()
    cache.append(*torch.zeros(2, 4, 1, 4, 4))
    getattr(cache, method)(**given)
    return cache.lengths.tolist()


_NO_ROWS = floating(2, 5, 8)
_NO_KEYS = Kind(
    (None, 3, "x", torch.zeros(2, 5, 4), torch.zeros(2, 2, 5, 4).to_sparse(), torch.zeros(3, 2, 5, 4))
)
_LAYER = nn.SelfAttention(8, 2)
_MULTIHEAD = nn.MultiheadAttention(8, 2, batch_first=True)

FORWARDS = {
    "SelfAttention()": Entry(
        _LAYER, {"x": X}, {"x": Kind(_NO_ROWS.refused[:-2]).also(X.double()), "cache": Kind((3, "x")), "mask": DENSE}
    ),
    "SelfAttention() with a cache": Entry(
        lambda lengths: after_step(lengths), {}, {"lengths": EACH.also([9, 1], [1])}
    ),
    "CrossAttention()": Entry(
        nn.CrossAttention(8, 2), {"x": X, "memory": MEMORY},
        {"x": Kind(_NO_ROWS.refused[:-2]), "memory": Kind(_NO_ROWS.refused[:-2]), "cache": Kind((3, "x"))},
    ),
    "MultiheadAttention()": Entry(
        _MULTIHEAD, {"query": X, "key": X, "value": X},
        {
            "key": Kind(_NO_ROWS.refused), "value": Kind(_NO_ROWS.refused),
            "attn_mask": Kind((1, "x", [[1]], torch.zeros(5, 5).long(), torch.zeros(5, 4))),
            "key_padding_mask": Kind((1, "x", torch.zeros(2, 5).bool().to_sparse(), torch.zeros(3))),
        },
    ),
    "TransformerEncoder()": Entry(
        nn.TransformerEncoder(1, 8, 2), {"x": X}, {"x": Kind(_NO_ROWS.refused[:-2]), "behind": Kind((3, [3], "x"))}
    ),
    "TransformerDecoder()": Entry(
        nn.TransformerDecoder(1, 8, 2), {"x": X},
        {"x": Kind(_NO_ROWS.refused[:-2]), "cache": Kind((3, "x", nn.KVCache(), nn.DecoderCache(3)))},
    ),
    "FeedForward()": Entry(nn.FeedForward(8), {}, {"x": Kind((None, "x", X.long(), X.to_sparse(), X[..., :4]))}),
    "ConvolutionModule()": Entry(nn.ConvolutionModule(8, 3), {"x": X}, {"x": _NO_ROWS, "own": Kind((3, X, X[..., 0]))}),
    "SinusoidalPositions()": Entry(nn.SinusoidalPositions(8), {"x": X}, {"x": _NO_ROWS, "offset": INTEGER.without(
        torch.Tensor).also(torch.tensor([1.0, 2.0]), torch.tensor([1, 2, 3]))}),
    "Rotary()": Entry(
        nn.Rotary(8), {"x": torch.randn(2, 2, 5, 8)},
        {"x": floating(2, 2, 5, 8), "offset": INTEGER.without(torch.Tensor).also(torch.tensor([1, 2, 3]))},
    ),
    "KVCache.append": Entry(cached, {}, {"key": _NO_KEYS, "value": _NO_KEYS, "lengths": EACH.also([9, 1])}),
    "KVCache.truncate": Entry(lambda n: after("truncate", n=n), {}, {"n": NATURAL.without(torch.Tensor).also(99)}),
    "KVCache.evict": Entry(
        lambda keep, **given: after("evict", scores=torch.zeros(4), keep=keep, **given), {"keep": 3},
        {"keep": SIZE, "recent": NATURAL.also(4), "sinks": NATURAL.also(4)},
    ),
    "KVCache.evict, scores": Entry(
        lambda scores: after("evict", scores=scores, keep=3), {},
        {"scores": Kind((None, 3, "x", [0.0] * 4, torch.zeros(3), torch.zeros(4).long(), torch.full((4,), torch.nan)))},
    ),
    "KVCache.keep_scores": Entry(
        lambda **given: nn.KVCache().keep_scores(**{"scores": "last", **given}), {},
        {"scores": choice(None), "window": SIZE},
    ),
    "KVCache.reorder": Entry(lambda indices: after("reorder", indices=indices), {}, {"indices": EACH.also([9])}),
}  # fmt: skip


@torch.no_grad()
def after_step(lengths: Any) -> list[int]:
    cache = nn.KVCache()
    _LAYER(X, cache=cache, lengths=lengths)
    return cache.lengths.tolist()


def _of_setting(name: str, annotation: Any) -> Kind:
    """The kind of a setting of a configuration."""
    kinds = get_args(annotation)
    if kinds and all(isinstance(word, str) for word in kinds):
        return choice()
    if annotation is bool:
        return FLAG
    if annotation is float:
        return SHARE if name.endswith(("dropout", "share")) else NUMBER.also(-1)
    least = {"pad": NATURAL, "start": NATURAL, "end": NATURAL, "subsampling": INTEGER}
    zero = ("stem", "segments", "vocabulary", "classes")
    kind = least.get(name, NATURAL if name in zero else SIZE)
    return kind.without(type(None)) if type(None) in kinds else kind


CONFIGS = {
    made.__name__: Entry(
        made,
        {} if made is models.VisionEncoderConfig else {"vocabulary": 20},
        {field.name: _of_setting(field.name, get_type_hints(made)[field.name]) for field in fields(made)},
    )
    for made in (
        models.DecoderConfig,
        models.EncoderConfig,
        models.EncoderDecoderConfig,
        models.SpeechEncoderConfig,
        models.VisionEncoderConfig,
    )
}

_SMALL = {"width": 8, "heads": 2, "layers": 1}
_TEXT = {**_SMALL, "vocabulary": 20, "max_positions": 16}
_DECODER = models.Decoder(models.DecoderConfig(**_TEXT)).eval()
_ENCODER = models.Encoder(models.EncoderConfig(**_TEXT, segments=2)).eval()
_BOTH = models.EncoderDecoder(models.EncoderDecoderConfig(**_TEXT, start=1, end=2)).eval()
_SPEECH = models.SpeechEncoder(models.SpeechEncoderConfig(**_SMALL, features=6)).eval()
_VISION = models.VisionEncoder(models.VisionEncoderConfig(**_SMALL, image_size=8, patch_size=4)).eval()
_PROMPT = torch.randint(20, (2, 5))
_NO_IDS = ids(2, 5)
_LENGTHS = EACH.also([9, 1], [-1, 2], [1])


def written(**given: Any) -> Any:
    return _DECODER.generate(**{"ids": _PROMPT, "new_tokens": 2, **given})


MODELS = {
    **{
        kind.__name__: Entry(kind, {}, {"config": Kind((None, 3, {}, "x"))})
        for kind in (models.Decoder, models.Encoder, models.EncoderDecoder, models.SpeechEncoder, models.VisionEncoder)
    },
    "Decoder()": Entry(_DECODER, {"ids": _PROMPT}, {"ids": _NO_IDS.also(_PROMPT + 100, _PROMPT - 50)}),
    "Encoder()": Entry(
        _ENCODER, {"ids": _PROMPT},
        {"ids": _NO_IDS, "lengths": _LENGTHS, "segments": Kind((3, "x", _PROMPT.float(), _PROMPT + 9, _PROMPT[:1]))},
    ),
    "EncoderDecoder()": Entry(
        _BOTH, {"source": _PROMPT, "target": _PROMPT},
        {
            "source": _NO_IDS.also(_PROMPT + 100), "target": _NO_IDS.also(_PROMPT + 100), "source_lengths": _LENGTHS,
            "wanted": Kind((3, "x", _PROMPT, (_PROMPT > 3)[0])),
        },
    ),
    "SpeechEncoder()": Entry(
        _SPEECH, {"frames": torch.randn(2, 9, 6)}, {"frames": floating(2, 9, 6), "lengths": EACH.also([10, 1])}
    ),
    "SpeechEncoder.output_lengths": Entry(_SPEECH.output_lengths, {}, {"lengths": EACH.without([[1], [2]])}),
    "VisionEncoder()": Entry(_VISION, {}, {"images": floating(2, 3, 8, 8)}),
    "generate": Entry(
        written, {},
        {"ids": _NO_IDS, "lengths": _LENGTHS.also([0, 1]), "new_tokens": SIZE, "beams": SIZE, "end": OPTIONAL_NATURAL.also(20),
         "length_penalty": NUMBER, "temperature": NUMBER.also(-1), "candidates": Kind(SIZE.refused),
         "no_repeat": OPTIONAL_SIZE},
    ),
    "generate, drawn": Entry(
        lambda **given: written(**{"temperature": 0.5, "generator": torch.Generator().manual_seed(0), **given}), {},
        {"top_k": OPTIONAL_SIZE, "top_p": POSITIVE.without(type(None)).also(1.5), "generator": Kind((3, "x"))},
    ),
    "save_pretrained": Entry(
        _DECODER.save_pretrained, {"folder": "here"},
        {"folder": PATH, "dtype": Kind((3, "float16", torch.int16)), "tokenizer": Kind((3, True, ["x"]))},
    ),
    "from_pretrained": Entry(models.from_pretrained, {}, {"folder": PATH}),
    "load_tokenizer": Entry(models.load_tokenizer, {}, {"folder": PATH}),
    "from_huggingface": Entry(models.from_huggingface, {}, {"source": Kind(PATH.refused)}),
}  # fmt: skip

_ROWS = {"per_query": FLAG, "queries": QUERIES, "unverified": FLAG}


def _measure(name: str, given: dict[str, Any] | None = None, **kinds: Kind) -> Entry:
    """A function of one matrix."""
    return Entry(
        getattr(measure, name), {"A": A, **(given or {})}, {"A": NO_MATRIX, "unverified": FLAG, **kinds}
    )


def _two(name: str, **kinds: Kind) -> Entry:
    """A function of two matrices."""
    given = {"left": A, "right": A, **({"k": 3} if "k" in kinds else {})}
    return Entry(
        getattr(measure, name),
        given,
        {"right": Kind((None, 3)), "queries": QUERIES, "unverified": FLAG, **kinds},
    )


_PATH = measure.frame_alignment(A)[0]
_GRADED = [(A, torch.randn(2, 2, 5, 4))]

MEASURES = {
    "about": Entry(measure.about, {}, {"name": choice()}),
    "attention_distance": _measure("attention_distance", align=ALIGN, **_ROWS),
    "compare": _two("compare", k=Kind(SIZE.refused, SIZE.taken)),
    "diagonality": _measure("diagonality", align=ALIGN, **_ROWS),
    "dtw": Entry(measure.dtw, {}, {"costs": Kind((None, 3, "x", [1, 2], torch.zeros(3), torch.zeros(2, 2).to_sparse()))}),
    "duplicate_token": _measure("duplicate_token", {"tokens": IDS}, tokens=TOKENS.also(None), align=ALIGN, **_ROWS),
    "encoder_decoder_relevance": Entry(
        measure.encoder_decoder_relevance, {"encoder": [], "decoder": [(None, _GRADED[0])], "targets": 0},
        {"decoder": Kind((None, 3, [], [3])), "targets": TARGETS, "unverified": FLAG},
    ),
    "entropy": _measure("entropy", normalized=FLAG, **_ROWS),
    "entropy_collapse": _measure("entropy_collapse", threshold=SHARE, queries=QUERIES),
    "entropy_difference": _two("entropy_difference"),
    "frame_alignment": _measure(
        "frame_alignment", heads=HEADS, frames=OPTIONAL_SIZE.also(9), rows=Kind((3, None, [0], slice("a"), slice(0, 9, 2)))
    ),
    "grid_distance": _measure(
        "grid_distance", {"grid": (2, 2), "special": 1},
        grid=Kind((4, (2,), "22", (2.0, 2), (True, 4), None, (-2, -2))), special=Kind(INTEGER.refused), patch=POSITIVE,
        **_ROWS,
    ),
    "head_divergence": _measure("head_divergence", queries=QUERIES),
    "head_labels": _measure(
        "head_labels", tokens=TOKENS, sinks=KEYS, thresholds=Kind((3, {}, "x")), align=ALIGN, queries=QUERIES
    ),
    "head_similarity": _measure("head_similarity", queries=QUERIES),
    "induction": _measure("induction", {"tokens": IDS}, tokens=TOKENS.also(None), align=ALIGN, **_ROWS),
    "jensen_shannon": _two("jensen_shannon"),
    "learned_sink_mass": _measure("learned_sink_mass", **_ROWS),
    "local_mass": _measure("local_mass", radius=NATURAL, align=ALIGN, **_ROWS),
    "max_logit": _measure("max_logit", stage=choice(), per_query=FLAG),
    "merge_words": _measure("merge_words", {"query_words": IDS}, query_words=TOKENS, key_words=TOKENS),
    "next_token": _measure("next_token", align=ALIGN, **_ROWS),
    "offset_score": _measure("offset_score", {"offset": -1}, offset=INTEGER, align=ALIGN, **_ROWS),
    "previous_token": _measure("previous_token", align=ALIGN, **_ROWS),
    "received": _measure("received", normalized=FLAG, queries=QUERIES),
    "relevance": Entry(
        measure.relevance, {"layers": _GRADED, "targets": 0},
        {"layers": Kind((None, 3, [], [3], [(A,)])), "targets": TARGETS, "unverified": FLAG},
    ),
    "retrieval": _measure(
        "retrieval", {"tokens": IDS, "needle": slice(0, 2)},
        tokens=TOKENS.also(None), needle=KEYS, generated=TOKENS, align=ALIGN,
    ),
    "rollout": Entry(
        measure.rollout, {"A": A, "targets": 0},
        {"targets": TARGETS, "residual": SHARE, "fusion": choice(), "normalize": FLAG, "unverified": FLAG},
    ),
    "sink_mass": _measure("sink_mass", keys=KEYS, **_ROWS),
    "sink_rate": _measure("sink_rate", threshold=SHARE, keys=KEYS, queries=QUERIES),
    "topk_overlap": _two("topk_overlap", k=Kind((True, 1.5, 0, -1, "3", None, 99))),
    "total_variation": _two("total_variation"),
    "weighted_norms": _measure(
        "weighted_norms", output=Kind((3, "x", [[1.0]], torch.zeros(6, 8).long(), torch.zeros(6, 7), torch.zeros(8)))
    ),
    "word_alignment": _measure(
        "word_alignment", {"query_words": IDS, "key_words": IDS},
        query_words=TOKENS, key_words=TOKENS, heads=HEADS, method=choice().also("union"),
    ),
    "word_times": Entry(
        measure.word_times, {"path": _PATH, "words": IDS},
        {"path": Kind((None, 3, (1, 2))), "words": Kind((3, "x", IDS.float(), IDS[:2])), "hop": POSITIVE, "offset": NUMBER},
    ),
    "Thresholds": Entry(
        measure.Thresholds, {},
        {**dict.fromkeys(("sink", "pattern", "broad", "local"), SHARE), "radius": NATURAL, "offsets": NATURAL, "rows": SIZE},
    ),
}  # fmt: skip

_TRAINED = sightline.AttentionMatrix(
    *torch.randn(3, 2, 2, 5, 6).requires_grad_(), mask=sightline.causal(), detach=False
)
_TEACHER = sightline.AttentionMatrix(*torch.randn(3, 2, 2, 5, 6), mask=sightline.causal())
_SHARE = SHARE.without(type(None))
_REDUCED = {"queries": QUERIES, "reduction": choice()}


def _loss(name: str, given: dict[str, Any] | None = None, **kinds: Kind) -> Entry:
    """A loss of one matrix."""
    return Entry(getattr(losses, name), {"A": _TRAINED, **(given or {})}, {"A": NO_MATRIX, **kinds})


def _transfer(name: str, **kinds: Kind) -> Entry:
    """A loss of a student and a teacher."""
    given = {"student": _TRAINED, "teacher": _TEACHER}
    return Entry(
        getattr(losses, name),
        given,
        {"student": NO_MATRIX, "teacher": NO_MATRIX, "queries": QUERIES, **kinds},
    )


def clipping(**given: Any) -> str:
    """A QKClip, closed again, in words."""
    clip = losses.QKClip(**{"model": nn.TransformerEncoder(1, 8, 2), **given})
    clip.close()
    return repr(clip)


_LAYERS = Kind((1.5, True, b"x", {1: 2}, [1.5], [True], [], -1, "nope"))
_MODULE = Kind((None, 3, "x", len, torch.nn.Linear))
LOSSES = {
    "entropy": _loss("entropy", {"floor": 0.5}, floor=_SHARE, target=Kind((0.5, "x")), normalized=FLAG, **_REDUCED),
    "entropy(target)": _loss(
        "entropy", {"target": 0.5}, floor=Kind((0.5, "x")), target=_SHARE, normalized=FLAG, **_REDUCED
    ),
    "sink_mass": _loss("sink_mass", keys=KEYS, allowance=SHARE, **_REDUCED),
    "alignment": _loss(
        "alignment", {"pairs": [(0, 0), (4, 1)]},
        pairs=Kind(
            (None, 3, "x", [1, 2], [[0.5, 1]], [[True, False]], [[0]], [[5, 0]], [[0, -1]], [[0, 1]], torch.zeros(1, 2)),
            ((torch.tensor([[2, 1]]), [(2, 1)]),),
        ),
        shares=Kind((3, [1.0, 1.0], torch.ones(3), torch.zeros(2), torch.tensor([1, 1]), torch.tensor([1.0, torch.nan]))),
        kind=choice(), reduction=choice(),
    ),
    "divergence": _transfer("divergence", kind=choice(), reduction=choice()),
    "tinybert": _transfer("tinybert", stage=choice(), reduction=choice()),
    "minilm": _transfer("minilm", heads=OPTIONAL_SIZE.also(5)),
    "minilmv2": _transfer("minilmv2", heads=OPTIONAL_SIZE.also(5), of=Kind((3, [], ["output"], "output", [3]))),
    "relation": Entry(losses.relation, {"A": _TEACHER}, {"A": NO_MATRIX, "of": choice(), "heads": OPTIONAL_SIZE.also(5)}),
    "QKClip": Entry(clipping, {}, {"model": _MODULE, "tau": POSITIVE, "layers": _LAYERS}),
    "watch": Entry(losses.watch, {"model": nn.TransformerEncoder(1, 8, 2)}, {"model": _MODULE, "layers": _LAYERS}),
}  # fmt: skip

_LAYER_OF_ONE = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
_MODEL = torch.nn.Sequential(torch.nn.Embedding(50, 8), _LAYER_OF_ONE)


def profiled(**given: Any) -> str:
    """The rows of a profile of two documents."""
    plain = {"model": _MODEL, "documents": [[1, 2, 3], [4, 5, 6]], "run": lambda ids, real: _MODEL(ids)}
    return repr(sightline.profile(**{**plain, **given}).rows)


def watched(**given: Any) -> str:
    """A monitor, closed again, in words."""
    monitor = sightline.monitor(**{"model": _LAYER_OF_ONE, **given})
    monitor.close()
    return repr(monitor)


_FUNCTION = Kind((3, "x"))
APPLICATIONS = {
    "profile": Entry(
        profiled, {},
        {
            "model": Kind((None, 3)), "measures": Kind((3, "entropy", ["nope"], [])), "max_tokens": OPTIONAL_SIZE,
            "windows": FLAG, "batch": SIZE, "limit": OPTIONAL_SIZE, "unverified": FLAG, "labels": FLAG.without(type(None)),
            "documents": Kind((None, 3, [3], [None], [[1.5]], [[True]], [["a"]], [torch.tensor([1.0])], [torch.ones(1, 2)])),
            "run": _FUNCTION, "progress": _FUNCTION, "checkpoint": PATH.without(type(None)), "resume": Kind(("no", 3, 0.5)),
        },
    ),
    "load_profile": Entry(sightline.load_profile, {}, {"path": PATH}),
    "trace": Entry(
        sightline.trace, {"model": nn.TransformerEncoder(1, 8, 2)},
        {
            "model": Kind((3, "x", True, [1], torch.nn.Linear)), "offload": Kind((3, "", "CPU", ["cpu"], True)),
            "layers": Kind((1.5, True, b"x", {1: 2}, [1.5], [True], [], -1, "nope")), "dtype": Kind((3, "float16", torch.int8)),
            "gradients": FLAG, "stitch": FLAG, "on_call": _FUNCTION, "residual": FLAG,
        },
    ),
    "load_trace": Entry(sightline.load_trace, {}, {"path": PATH}),
    "intervene": Entry(sightline.intervene, {}, {"model": Kind((3, "x", True, [1], torch.nn.Linear))}),
    "effects": Entry(
        sightline.effects,
        {
            "model": torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), "inputs": torch.randn(1, 3, 8),
            "metric": lambda output: output.sum(),
        },
        {
            "metric": Kind((None, 3, "x", lambda output: "x")), "of": choice(), "how": Kind((None, "none", [1, "x"], {1})),
            "edges": Kind(([], [(0, 0, 0, 0)])), "layers": Kind((1.5, True, [], -1, "nope")), "progress": Kind((3, "x", None)),
            "path": PATH.without(type(None)), "about": Kind((3, True, b"x")),
        },
    ),
    "monitor": Entry(
        watched, {},
        {
            "model": Kind((None, 3)), "every": SIZE, "start": NATURAL, "batch_entries": OPTIONAL_SIZE,
            "limits": Kind((3, {}, "x")), "on_alarm": _FUNCTION, "to": Kind((3, True, object(), [3])),
        },
    ),
    "pipeline": Entry(
        sightline.pipeline, {"task": "sentiment"},
        {"task": Kind((None, 3, "", "nope", ["sentiment"], "SENTIMENT")), "model": PATH.without(type(None))},
    ),
}  # fmt: skip

TABLES = {
    "sightline": MASKS | CALLS | APPLICATIONS,
    "nn": LAYERS | FORWARDS,
    "models": CONFIGS | MODELS,
    "measure": MEASURES,
    "losses": LOSSES,
}

#: Public callables that no table holds, and where their arguments are tried.
ELSEWHERE = {
    "sightline": {
        "AttentionMatrix": "as attention(); tests/engine", "Align": "a type", "Bias": "a base", "Mask": "a base",
        "Explanation": "a result", "Readouts": "a result", "Picture": "a record", "Sound": "a record",
        "__version__": "a text", "backend": "tests/engine/test_errors.py", "info": "takes nothing",
        "accelerate": "tests/nn/test_acceleration.py", "product": "tests/products/test_choice.py",
        "keep_freed_memory": "tests/products/test_freed_memory.py",
        "sdpa_override": "takes nothing", "widget": "needs anywidget; tests/view/test_widget.py",
    },
    "nn": {
        "Linear": "as PyTorch's; tests/products", "BlockMatrices": "a result", "BlockOptions": "names only", "DecoderMatrices": "a result",
        "EvictionRule": "a protocol",
    },
    "models": {
        "CheckpointError": "an error", "Generated": "a result", "Matrices": "a result", "Model": "a base",
        "TransformerConfig": "a base",
    },
    "measure": {
        "Comparison": "a result", "EncoderDecoderRelevance": "a result", "HeadLabel": "a result",
        "Layer": "a record", "Measure": "a record", "Pair": "a result", "Path": "a result", "UnverifiedError": "an error",
        "WeightedNorms": "a result", "WordTime": "a result", "all": "takes nothing",
    },
    "losses": {"Clipped": "a result", "WatchedCall": "a result"},
}  # fmt: skip
