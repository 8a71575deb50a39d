"""Beam search: the likeliest text among a few candidates that are kept at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.models.generation.decoding import Decoding, worth_leaving
from sightline.models.generation.repetition import NoRepeat
from sightline.models.generation.result import Generated


class FinishedTexts:
    """The best finished texts of one entry.

    Args:
        wanted: how many are kept.
        penalty: texts compare by score / length^penalty.
    """

    def __init__(self, wanted: int, penalty: float) -> None:
        self._wanted, self._penalty = wanted, penalty
        self.texts: list[tuple[float, list[int]]] = []

    @classmethod
    def of(cls, batch: int, wanted: int, penalty: float) -> list[FinishedTexts]:
        """Those of each entry of a batch, none so far."""
        return [cls(wanted, penalty) for _ in range(batch)]

    def add(self, score: float, text: list[int]) -> None:
        """Adds one; the worst is dropped where there are too many."""
        self.texts.append((score / len(text) ** self._penalty, text))
        self.texts.sort(key=lambda one: -one[0])
        del self.texts[self._wanted :]

    def settled(self, best: float, length: int, longest: int) -> bool:
        """Whether no unfinished text can still come in: the best score among them only falls."""
        if len(self.texts) < self._wanted:
            return False
        at = longest if self._penalty > 0 else length
        bound: float = best / at**self._penalty
        return self.texts[-1][0] >= bound


def beam_search(
    decoding: Decoding,
    ids: Tensor,
    lengths: Tensor | None,
    new_tokens: int,
    beams: int,
    finished: list[FinishedTexts],
    bar: NoRepeat,
    end: int | None,
) -> None:
    """Step by step, ``beams`` candidates of each entry; see :func:`generate`.

    Of 2·beams continuations at least half do not end, so that there are always enough to go on with. An entry
    is settled when no candidate can still beat the ``finished`` texts that it has, and leaves the batch; at
    ``new_tokens`` all candidates end.
    """
    batch = ids.shape[0]
    entries = list(range(batch))  # those in the batch
    log_p = decoding.step(ids, lengths)[:, None]  # [B,1,V]
    decoding.repeat(beams)
    scores = torch.zeros(batch, 1, device=ids.device)
    texts = ids.new_zeros(batch, 1, 0)
    for length in range(1, new_tokens + 1):
        each = [entry for entry in entries for _ in range(texts.shape[1])]
        log_p = bar(log_p.flatten(0, 1), each, texts.flatten(0, 1)).view_as(log_p)
        scores, origin, token = _continued(scores[..., None] + log_p, 2 * beams)
        texts = torch.cat((_taken(texts, origin), token[..., None]), 2)
        ends = token == end if end is not None else torch.zeros_like(token, dtype=torch.bool)
        last = length == new_tokens
        _collect([finished[b] for b in entries], scores[:, :beams], texts, ends[:, :beams] | last)
        kept = ends.int().argsort(dim=1, stable=True)[:, :beams]  # the best that do not end
        scores = _taken(scores.masked_fill(ends, -torch.inf), kept)
        origin, texts = _taken(origin, kept), _taken(texts, kept)
        best = scores.max(1).values.tolist()
        going = [i for i, b in enumerate(entries) if not finished[b].settled(best[i], length, new_tokens)]
        if last or not going:
            break
        rows = origin + torch.arange(len(entries), device=ids.device)[:, None] * beams
        leaving = worth_leaving(len(going), len(entries))
        if leaving:
            entries = [entries[i] for i in going]
            scores, texts, rows = scores[going], texts[going], rows[going]
        decoding.reorder(rows.flatten(), memory=leaving)
        log_p = decoding.step(texts[..., -1].reshape(-1, 1)).view(len(entries), beams, -1)


def collected(finished: list[FinishedTexts], wanted: int, ids: Tensor, pad: int) -> Generated:
    """The best texts of each entry, empty ones where there are too few."""
    none = [(-float("inf"), list[int]())]
    chosen = [each for one in finished for each in (one.texts + none * wanted)[:wanted]]
    lengths = torch.tensor([len(text) for _, text in chosen], dtype=torch.int64, device=ids.device)
    longest = max((len(text) for _, text in chosen), default=0)
    tokens = [text + [pad] * (longest - len(text)) for _, text in chosen]
    scores = torch.tensor([score for score, _ in chosen], device=ids.device)
    return Generated(torch.tensor(tokens, dtype=ids.dtype, device=ids.device), lengths, scores)


def _continued(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the scores [B,K,V] of all continuations the best: scores, origins and tokens, [B,count], descending.

    Where there are fewer, the last ones have a score of −∞.
    """
    batch, _, vocabulary = scores.shape
    flat = scores.view(batch, -1)
    best = flat.topk(min(count, flat.shape[1]))
    missing = count - best.values.shape[1]
    values = torch.nn.functional.pad(best.values, (0, missing), value=-torch.inf)
    indices = torch.nn.functional.pad(best.indices, (0, missing))
    return values, indices // vocabulary, indices % vocabulary


def _taken(of_candidates: Tensor, which: Tensor) -> Tensor:
    """[B,K,...] → [B,K',...], the candidates ``which`` [B,K'] of each entry."""
    entries = torch.arange(which.shape[0], device=which.device)[:, None]
    return of_candidates[entries, which]


def _collect(finished: list[FinishedTexts], scores: Tensor, texts: Tensor, ends: Tensor) -> None:
    """The candidates [B,K] that end."""
    ended = (ends & scores.isfinite()).nonzero().tolist()
    for b, k in ended:
        finished[b].add(float(scores[b, k]), texts[b, k].tolist())
