"""Writing: the options, their checks, and which loop runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
from torch import Tensor

from sightline.common.check import check_integers, integer, number, shown
from sightline.models.generation.beam import FinishedTexts, beam_search, collected
from sightline.models.generation.decoding import Decoding, GenerativeModel
from sightline.models.generation.next_token import NextToken
from sightline.models.generation.repetition import NoRepeat
from sightline.models.generation.result import Generated
from sightline.models.generation.sampling import sample
from sightline.nn.eviction import EvictionRule


class GenerationOptions(TypedDict, total=False):
    """What :func:`generate` takes by keyword; the models' own ``generate`` pass it on."""

    new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    beams: int
    length_penalty: float
    no_repeat: int | None
    candidates: int
    end: int | None
    generator: torch.Generator | None
    evict: EvictionRule | None


def generate(
    decoding: Decoding,
    ids: Tensor,
    lengths: Tensor | None,
    *,
    new_tokens: int = 32,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    beams: int = 1,
    length_penalty: float = 1.0,
    no_repeat: int | None = None,
    candidates: int = 1,
    end: int | None = None,
    generator: torch.Generator | None = None,
    evict: EvictionRule | None = None,
) -> Generated:
    """Continues ``ids``, with a cache, without gradients and without dropout.

    Args:
        decoding: the model, at its beginning.
        ids: [B,N], the beginning, padded on the right.
        lengths: [B], from 1 to N: how much of it counts. Default: all.
        new_tokens: the most tokens to write. Default: 32.
        temperature: 0 takes the likeliest token, above 0 draws from softmax(logits / temperature).
            Default: 0.
        top_k: draw among the k likeliest only.
        top_p: draw among the likeliest that together have at least this probability (nucleus sampling).
        beams: above 1, search for the likeliest text with this many candidates. Default: 1.
        length_penalty: candidates compare by Σ ln p / length^penalty. Default: 1.
        no_repeat: no run of this many tokens comes twice in a text, what is given included. Default: any may.
        candidates: how many of a search's texts to return for each entry, next to each other, the best first;
            an empty text with a score of −∞ where there are fewer. At most ``beams``. Default: 1.
        end: the token that ends a text. Default: the configuration's.
        generator: draws from it. Default: PyTorch's.
        evict: which keys leave the caches of the self-attention, so that they stay bounded: a
            :class:`sightline.nn.HeavyHitters`, :class:`sightline.nn.LastQuery`, :class:`sightline.nn.SnapKV`,
            or a rule of your own. What is written is then another text. Default: none.

    Raises:
        ValueError: for options out of range or that exclude each other, or positions that do not suffice.

    Sources: Fan et al. 2018, "Hierarchical neural story generation" (top-k); Holtzman et al. 2020, "The
    curious case of neural text degeneration" (top-p); Wu et al. 2016, "Google's neural machine translation
    system" (length penalty); Paulus et al. 2018, "A deep reinforced model for abstractive summarization"
    (no run twice).
    """
    new_tokens, beams = integer("new_tokens", new_tokens, 1), integer("beams", beams, 1)
    candidates, length_penalty = integer("candidates", candidates), number("length_penalty", length_penalty)
    no_repeat = None if no_repeat is None else integer("no_repeat", no_repeat, 1)
    _check(decoding, ids, lengths, new_tokens)
    if beams > 1 and (temperature or top_k is not None or top_p is not None):
        raise ValueError("beams: a beam search draws nothing; leave temperature, top_k and top_p out.")
    if not 1 <= candidates <= beams:
        raise ValueError(f"candidates: must be from 1 to beams={beams}, got {candidates}.")
    choose = NextToken(temperature, top_k, top_p, generator)
    config = decoding.model.config
    end = config.end if end is None else integer("end", end, 0, config.vocabulary - 1)
    if evict is not None:
        if not callable(evict) or not hasattr(evict, "scores"):
            raise TypeError(f"evict: must be an EvictionRule, as HeavyHitters is, got {shown(evict)}.")
        decoding.evict_by(evict)
    ids = ids.long()
    pad = next((one for one in (config.pad, end) if one is not None), 0)
    if not ids.shape[0]:
        return Generated(ids[:, :0], ids.new_zeros(0), torch.zeros(0, device=ids.device))
    bar = NoRepeat(no_repeat, ids, lengths)
    with torch.no_grad(), _evaluating(decoding.model):
        if beams > 1:
            searched = FinishedTexts.of(ids.shape[0], candidates, length_penalty)
            beam_search(decoding, ids, lengths, new_tokens, beams, searched, bar, end)
            return collected(searched, candidates, ids, pad)
        return sample(decoding, ids, lengths, new_tokens, choose, bar, end, pad)


def _check(decoding: Decoding, ids: Tensor, lengths: Tensor | None, new_tokens: int) -> None:
    check_integers("ids", ids)
    if ids.is_meta:
        raise ValueError("ids: on meta, where nothing can be generated.")
    if ids.dim() != 2 or not ids.shape[1]:
        raise ValueError(f"ids: expected [B,N] with N of 1 or more, got shape {list(ids.shape)}.")
    longest = ids.shape[1]
    if lengths is not None:
        if lengths.shape != ids.shape[:1]:
            raise ValueError(f"lengths: {lengths.numel()} numbers for a batch of B={ids.shape[0]} (axis B).")
        if lengths.numel() and not 1 <= int(lengths.min()) <= int(lengths.max()) <= longest:
            raise ValueError(f"lengths: must lie between 1 and N={longest}, got {lengths.tolist()}.")
    room = decoding.model.config.room
    if room is not None and longest + new_tokens - 1 > room:
        raise ValueError(
            f"new_tokens: {new_tokens} after {longest} given ones go beyond the model's {room} "
            f"positions. Ask for {max(0, room - longest + 1)} or fewer."
        )


@contextmanager
def _evaluating(model: GenerativeModel) -> Iterator[None]:
    """Eval mode; every module is then what it was before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
