"""What ``trace.why`` gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from sightline.attribution.split import Split


@dataclass(frozen=True, eq=False, repr=False)
class Why(Split):
    """Why a query looks at a key: its score in parts; see :meth:`sightline.tracing.calls.Calls.why`.

    ``score = scale · q·k = Σ table``.

    Attributes:
        name: of the attention layer.
        head, batch, query, key: which score.
        score: scaled, before a soft cap, a bias and the mask; with ``contrast`` less the mean score of the
            keys that the query may look at.
        bias: what ALiBi or relative positions add to the score of this pair.
        weight: of the key, after the softmax; 0 where a mask hides it.
        query_parts: names of the P parts of the query.
        key_parts: names of the Q parts of the key; mostly the same.
        table: [P,Q] float64, what each part of the query brings with each part of the key.
        remainder: the score less the sum of the table: what rounding in the model left.
        contrast: whether the score is that above other keys.

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
        >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        ...     logits = model(torch.randint(50, (1, 7)))
        >>> why = trace.why(1, head=3, query=6, key=2)
        >>> why.table.shape, len(why.top(3)), sorted(why.to_dict())[:3]
        (torch.Size([10, 10]), 3, ['batch', 'bias', 'contrast'])
    """

    batch: int
    query: int
    key: int
    bias: float
    weight: float

    def _headline(self) -> str:
        bias = f", and {self.bias:+.3f} by distance" if self.bias else ""
        return (
            f"{self.name} head {self.head}: query {self.query} looks at key {self.key} with weight "
            f"{self.weight:.3f}; {self._what} {self.score:.3f}{bias}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class MeanWhy(Split):
    """Why a head looks where it looks most: mean scores in parts, over queries and their strongest keys.

    ``score = mean over pairs of scale · q·k = Σ table``. Two of one head add up to the mean over the pairs of
    both: ``sum(answers[1:], answers[0])`` for a corpus.

    Attributes:
        name: of the attention layer.
        head: which head.
        score: the mean over the pairs; see :class:`Why`.
        pairs: how many there are.
        query_parts, key_parts: names of the P and Q parts.
        table: [P,Q] float64, mean contributions; they sum to the score.
        absolute_of_query: [P], the mean magnitude of what each part of the query brings to a pair.
        absolute_of_key: [Q], the same of the key's.
        remainder: the mean score less the sum of the table.
        contrast: whether scores are those above other keys.

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
        >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        ...     logits = model(torch.randint(50, (2, 7)))
        >>> mean = trace.why(1, head=3, batch=0) + trace.why(1, head=3, batch=1)
        >>> mean.pairs, trace.why(1, head=3).pairs
        (14, 14)
    """

    pairs: int
    absolute_of_query: Tensor
    absolute_of_key: Tensor

    def __add__(self, other: MeanWhy) -> MeanWhy:
        """The mean over the pairs of both.

        Raises:
            ValueError: for another head, or a model of other parts.
        """
        if not isinstance(other, MeanWhy):
            return NotImplemented
        for field in ("name", "head", "query_parts", "key_parts", "contrast"):
            if getattr(self, field) != getattr(other, field):
                mine, theirs = (_short(getattr(each, field)) for each in (self, other))
                raise ValueError(f"why: {field} differs: {mine} and {theirs}. Add answers of one head.")
        pairs = self.pairs + other.pairs
        share, rest = self.pairs / pairs, other.pairs / pairs
        means = ("table", "score", "remainder", "absolute_of_query", "absolute_of_key")
        mixed = {each: share * getattr(self, each) + rest * getattr(other, each) for each in means}
        return replace(self, pairs=pairs, **mixed)

    def _headline(self) -> str:
        return (
            f"{self.name} head {self.head}: mean {self._what} {self.score:.3f}, pairs of queries and their "
            f"strongest keys: {self.pairs}"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
