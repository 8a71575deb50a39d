"""Whole models: PyTorch's, with Sightline's attention, accelerated, and exported to other libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from sightline.bench.sections.section import CASE, DTYPE, ERROR, MS, PASS, SPREAD, X_ERROR, BenchSection
from sightline.bench.session import OURS, Row, Session
from sightline.bench.wholes import models
from sightline.bench.wholes.by_sightline import AttentionAlone, BySightline, MemoryKept
from sightline.bench.wholes.by_torch import ByTorch, InLargePages
from sightline.bench.wholes.case import WholeCase
from sightline.bench.wholes.contest import LIBRARIES, Entrant, contest

_THEIRS, _LARGE, _ATTENTION = "PyTorch", "PyTorch in large pages", "attention alone"
_ENTRANTS = {
    OURS: Entrant(BySightline()),
    "memory kept": Entrant(MemoryKept()),
    _THEIRS: Entrant(ByTorch()),
    _LARGE: Entrant(InLargePages()),
    _ATTENTION: Entrant(AttentionAlone()),
    **LIBRARIES,
}
_LLAMA = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
_TINY = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}


def rows(session: Session) -> Iterator[Row]:
    """Encoders of text, pictures and sound, a decoder, two training steps; each in both dtypes."""
    families = [_translation]
    if importlib.util.find_spec("transformers") is None:
        session.note("models", 'of Transformers: not installed: pip install "sightline[app]"')
    else:
        families = [_bert, _modernbert, _vit, _whisper, _llama, _bert_training, *families]
    for family in families:
        for dtype in ("float32", "bfloat16"):
            for case in family(session, dtype):
                # Attention alone: what Transformers calls an implementation; nobody else's models have one.
                left = (_ATTENTION,) if family is _translation else ()
                entrants = {name: one for name, one in _ENTRANTS.items() if name not in left}
                yield contest(session, case, entrants, _THEIRS)


def _bert(session: Session, dtype: str) -> Iterator[WholeCase]:
    sizes: dict[str, Any] = session.pick(
        full={"num_hidden_layers": 12}, quick={"num_hidden_layers": 2},
        tiny={"num_hidden_layers": 1, **_TINY},
    )  # fmt: skip
    shapes = session.pick(full=((8, 128), (1, 512)), quick=((2, 128),), tiny=((2, 5),))
    for batch, length in shapes:
        title = f"BERT, {_layers(sizes, 768)}, ({batch},{length})"
        yield models.model_case(title, models.bert, dtype, batch=batch, length=length, **sizes)


def _modernbert(session: Session, dtype: str) -> Iterator[WholeCase]:
    length = session.pick(full=2048, quick=256, tiny=6)
    sizes = {"num_hidden_layers": 3, **session.pick(full={}, quick={}, tiny=_TINY | {"local_attention": 4})}
    title = f"ModernBERT, {_layers(sizes, 768)}, (1,{length})"
    yield models.model_case(title, models.modernbert, dtype, batch=1, length=length, **sizes)


def _vit(session: Session, dtype: str) -> Iterator[WholeCase]:
    sizes: dict[str, Any] = session.pick(
        full={"num_hidden_layers": 12}, quick={"num_hidden_layers": 2},
        tiny={"num_hidden_layers": 1, "image_size": 8, "patch_size": 4, **_TINY},
    )  # fmt: skip
    batch = session.pick(full=8, quick=1, tiny=1)
    side = sizes.get("image_size", 224)
    title = f"ViT-B/16, {_layers(sizes, 768)}, ({batch},3,{side},{side})"
    yield models.model_case(title, models.vit, dtype, batch=batch, **sizes)


def _whisper(session: Session, dtype: str) -> Iterator[WholeCase]:
    base = {"d_model": 512, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    tiny = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "max_source_positions": 6}
    sizes: dict[str, Any] = session.pick(
        full={"encoder_layers": 6, **base}, quick={"encoder_layers": 1, "max_source_positions": 300, **base},
        tiny={"encoder_layers": 1, **tiny},
    )  # fmt: skip
    sound = sizes.get("max_source_positions", 1500)
    layers = _layers({"num_hidden_layers": sizes["encoder_layers"]}, sizes["d_model"])
    title = f"Whisper's encoder, {layers}, (1,{sound})"
    yield models.model_case(title, models.whisper_encoder, dtype, batch=1, **sizes)


def _llama(session: Session, dtype: str) -> Iterator[WholeCase]:
    tiny = {"num_hidden_layers": 1, **_TINY, "num_key_value_heads": 1}
    sizes: dict[str, Any] = session.pick(
        full={"num_hidden_layers": 4, **_LLAMA}, quick={"num_hidden_layers": 1, **_LLAMA}, tiny=tiny
    )
    prompt, cached = session.pick(full=(512, 4096), quick=(64, 1024), tiny=(5, 5))
    name = f"Llama 1B, {_layers(sizes, 2048)}"
    yield models.model_case(
        f"{name}, prompt of {prompt}", models.llama_prefill, dtype, batch=1, length=prompt, **sizes
    )
    yield models.model_case(
        f"{name}, step after {cached}", models.llama_decode, dtype, cached=cached, **sizes
    )


def _bert_training(session: Session, dtype: str) -> Iterator[WholeCase]:
    sizes: dict[str, Any] = session.pick(
        full={"num_hidden_layers": 12}, quick={"num_hidden_layers": 1, "vocab_size": 5000},
        tiny={"num_hidden_layers": 1, "vocab_size": 1000, **_TINY},
    )  # fmt: skip
    batch, length = session.pick(full=(8, 128), quick=(2, 64), tiny=(2, 5))
    title = f"BERT, {_layers(sizes, 768)}, ({batch},{length})"
    yield models.model_case(
        title, models.bert_training, dtype, "training step", batch=batch, length=length, **sizes
    )


def _translation(session: Session, dtype: str) -> Iterator[WholeCase]:
    sizes = session.pick(
        full={"width": 512, "heads": 8, "layers": 6, "vocabulary": 16000},
        quick={"width": 128, "heads": 4, "layers": 4, "hidden": 256, "vocabulary": 5000},
        tiny={"width": 16, "heads": 2, "layers": 1, "vocabulary": 50},
    )
    batch, length = session.pick(full=(32, 32), quick=(8, 16), tiny=(2, 5))
    title = (
        f"translation, {sizes['layers']} + {sizes['layers']} layers of {sizes['width']}, ({batch},{length})"
    )
    yield models.model_case(
        title, models.translation_training, dtype, "training step", batch=batch, length=length, **sizes
    )


def _layers(sizes: dict[str, Any], width: int) -> str:
    count = sizes["num_hidden_layers"]
    return f"{count} layer{'s' * (count > 1)} of {sizes.get('hidden_size', width)}"


SECTION = BenchSection(
    name="models",
    title="Whole models",
    note=(
        "Models with random weights. sightline is sightline.accelerate(model, packed=True), and PyTorch the "
        "model as it stands, with SDPA. accelerate moves parameters to large pages of memory; PyTorch in "
        "large pages is the model as it stands with that alone. Memory kept is ours after "
        "sightline.keep_freed_memory(), which is for a whole process, in one of its own. Attention alone "
        'is attn_implementation="sightline". Translation is sightline.models.EncoderDecoder, accelerated, '
        "beside the same of torch.nn's layers. A training step is forward, backward and fused AdamW, all in "
        "the dtype, without dropout."
    ),
    columns=(CASE, DTYPE, PASS, MS, SPREAD, ERROR, X_ERROR),
    rows=rows,
    contenders=tuple(_ENTRANTS),
)
