"""Reading many positions of a stream at once, with memory for a part of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.attribution.lens.stream import WordStream

_HELD = 1 << 22  # logits that are held at a time
_ALLOWED = 1e-4  # of the difference between a logit and the sum of its parts
_ALLOWED_OF_HALF = 64  # roundings


class WordsOfPositions(NamedTuple):
    """What the stream of n positions says at S stages.

    Attributes:
        words: [n,S,k], the likeliest.
        logits: [n,S,k] of them.
        probabilities: [n,S,k] of them.
        final: [n], the likeliest word at the end, or the words that were given.
        ranks: [n,S], which place the final word has, from 1.
        of_final: [n,S], its probability.
        logit_of_final: [n,S], its logit.
    """

    words: Tensor
    logits: Tensor
    probabilities: Tensor
    final: Tensor
    ranks: Tensor
    of_final: Tensor
    logit_of_final: Tensor


def read_words(
    stream: WordStream, batch: int, rows: Tensor, k: int, final: Tensor | None = None
) -> WordsOfPositions:
    """The likeliest words of positions [n] at each stage; with ``final`` [n] that word is followed."""
    parts = [
        _read(stream, batch, some, k, None if final is None else final[at])
        for at, some in _pieces(rows, len(stream.stages) * stream.vocabulary)
    ]
    return WordsOfPositions(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _read(stream: WordStream, batch: int, rows: Tensor, k: int, final: Tensor | None) -> WordsOfPositions:
    logits = stream.logits(stream.states(batch, rows))  # [S,n,V]
    logs = logits.log_softmax(-1)
    top = logits.topk(k, -1)
    if final is None:
        final = logits[-1].argmax(-1)
    at = final[None, :, None].expand(len(logits), -1, 1)
    own = logits.gather(-1, at)
    return WordsOfPositions(
        top.indices.transpose(0, 1),
        top.values.transpose(0, 1),
        logs.gather(-1, top.indices).exp().transpose(0, 1),
        final,
        ((logits > own).sum(-1) + 1).T,
        logs.gather(-1, at)[..., 0].exp().T,
        own[..., 0].T,
    )


def read_parts(stream: WordStream, batch: int, rows: Tensor, words: Tensor) -> dict[str, Tensor]:
    """What each part brings to the logit of one word [n] at each of positions [n], by name: [n].

    Raises:
        ValueError: where that cannot be said.
    """
    if stream.why_no_parts is not None:
        raise ValueError(f"lens: who brought a word cannot be said of this model: {stream.why_no_parts}.")
    found = [
        {name: values.diagonal() for name, values in stream.parts(batch, some, words[at]).items()}
        for at, some in _pieces(rows, _HELD >> 6)
    ]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def check_parts(total: Tensor, logits: Tensor, eps: float) -> None:
    """Raises where parts do not add up to logits [n]."""
    allowed = max(_ALLOWED, _ALLOWED_OF_HALF * eps) * logits.abs().clamp_min(1)
    difference = (total - logits).abs()
    if not bool((difference <= allowed).all()):
        raise ValueError(
            f"lens: the sum of the parts differs from the logit by {float(difference.max()):.3g}. Weights "
            "were changed after the trace, or layers were replaced or hooked."
        )


def _pieces(rows: Tensor, numbers: int) -> Iterator[tuple[slice, Tensor]]:
    """Positions in pieces for which ``numbers`` each are held."""
    step = max(1, _HELD // numbers)
    for start in range(0, len(rows), step):
        yield slice(start, start + step), rows[start : start + step]
