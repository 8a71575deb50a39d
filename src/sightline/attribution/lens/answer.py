"""What ``trace.lens`` gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.attribution.lens.reader import check_parts, read_parts, read_words
from sightline.attribution.lens.stream import Part, Stage, WordStream
from sightline.common.check import integer

_SHOWN = 4
_PARTS_SHOWN = 8


class Followed(NamedTuple):
    """One word at S stages.

    Attributes:
        logits: [S].
        probabilities: [S].
        ranks: [S], its place among all words; 1 for the likeliest.

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
        >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        ...     logits = model(torch.randint(50, (1, 7)))
        >>> trace.lens(6).follow(logits[0, 6].argmax()).ranks[-1]
        tensor(1)
    """

    logits: Tensor
    probabilities: Tensor
    ranks: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens:
    """What a position's vector says in words, at S stages; see :meth:`sightline.tracing.calls.Calls.lens`.

    ``probabilities = softmax(W · norm(stream))``, with the model's final norm and its output matrix W.

    Attributes:
        batch, position: which.
        stages: names of the stages: "embedding", "layer 0 attention", "layer 0 feed-forward", ...
        tokens: [S,k] int64, ids of the likeliest words.
        logits: [S,k] float64.
        probabilities: [S,k] float64.
        note: what to know of it; mostly "".

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
        >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        ...     logits = model(torch.randint(50, (1, 7)))
        >>> lens = trace.lens(-1, k=3)
        >>> lens.stages[:3]
        ('embedding', 'layer 0 attention', 'layer 0 feed-forward')
        >>> lens.tokens.shape, bool(lens.tokens[-1, 0] == logits[0, -1].argmax())
        (torch.Size([5, 3]), True)
    """

    batch: int
    position: int
    stages: tuple[str, ...]
    tokens: Tensor
    logits: Tensor
    probabilities: Tensor
    note: str
    _stream: WordStream = field(repr=False)
    _kept: tuple[int, ...] = ()
    _eps: float = 0.0
    _word: Callable[[int], str] | None = None

    def word(self, token: int) -> str:
        """What to call a token: its string, where ``words`` were given, else its id."""
        return str(token) if self._word is None else str(self._word(token))

    @property
    def words(self) -> list[list[str]]:
        """S × k strings of the likeliest words."""
        return [[self.word(token) for token in row] for row in self.tokens.tolist()]

    def follow(self, token: int) -> Followed:
        """Logit, probability and rank of one word at each stage.

        Raises:
            ValueError: for an id outside of the vocabulary.
        """
        read = read_words(self._stream, self.batch, self._rows, 1, torch.tensor([self._id("token", token)]))
        kept = list(self._kept)
        return Followed(read.logit_of_final[0, kept], read.of_final[0, kept], read.ranks[0, kept])

    def contributions(self, token: int | None = None, against: int | None = None) -> LogitAttribution:
        """What each part of the model adds to the logit of a word directly: direct logit attribution.

        ``logit = Σ values``: the stream is a sum of what the embedding, each head and each feed-forward layer
        wrote; each is carried through the final norm, with its deviation held at the value that it had, and
        multiplied with the word's row of the output matrix.

        Args:
            token: the word's id. Default: the likeliest at the end.
            against: the id of another word: what speaks for the one rather than the other, the difference of
                their logits. Default: the logit itself.

        Raises:
            ValueError: for an id outside of the vocabulary; where a logit is no sum over parts, as with the
                layers in front of the output matrix of masked-token models, or not known as one, as in
                Transformers' models with norms behind attention; where the parts do not add up to it.

        Source: Elhage et al. 2021, "A mathematical framework for transformer circuits".
        """
        rows, batch = self._rows, self.batch
        given = None if token is None else torch.tensor([self._id("token", token)])
        read = read_words(self._stream, batch, rows, 1, given)
        parts = read_parts(self._stream, batch, rows, read.final)
        logit = read.logit_of_final[:, -1]
        if against is not None:
            other = torch.tensor([self._id("against", against)])
            less = read_parts(self._stream, batch, rows, other)
            parts = {name: values - less[name] for name, values in parts.items()}
            logit = logit - read_words(self._stream, batch, rows, 1, other).logit_of_final[:, -1]
        values = torch.cat(list(parts.values()))
        check_parts(values.sum()[None], logit, self._eps)
        return LogitAttribution(
            batch=batch,
            position=self.position,
            token=int(read.final),
            against=None if against is None else int(against),
            parts=tuple(parts),
            values=values,
            logit=float(logit),
            remainder=float(logit - values.sum()),
            _word=self._word,
        )

    @property
    def _rows(self) -> Tensor:
        return torch.tensor([self.position])

    def _id(self, name: str, value: int) -> int:
        return integer(name, value, 0, self._stream.vocabulary - 1)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and strings, for JSON."""
        return {
            "batch": self.batch,
            "position": self.position,
            "stages": list(self.stages),
            "tokens": self.tokens.tolist(),
            "words": self.words,
            "logits": self.logits.tolist(),
            "probabilities": self.probabilities.tolist(),
            "note": self.note,
        }

    def __repr__(self) -> str:
        width = max(map(len, self.stages))
        lines = [f"position {self.position}, read out at {len(self.stages)} places"]
        for stage, words, shares in zip(self.stages, self.words, self.probabilities.tolist(), strict=True):
            told = [f"{word!r} {share:.3f}" for word, share in zip(words, shares, strict=True)][:_SHOWN]
            lines.append(f"  {stage:{width}}   {'   '.join(told)}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class LogitAttribution:
    """What each part of a model adds to the logit of a word directly; see :meth:`LogitLens.contributions`.

    Attributes:
        batch, position: which.
        token: the word's id.
        against: the id of the word that it is compared with, or ``None``.
        parts: names of the P parts: "tokens", "positions", "layer 0 head 3", "layer 0 feed-forward", ...
        values: [P] float64, what each adds.
        logit: of the word, or its difference to the other's.
        remainder: the logit less the sum of the values: what rounding left.

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, heads=4, layers=2, vocabulary=50)).eval()
        >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        ...     logits = model(torch.randint(50, (1, 7)))
        >>> found = trace.lens(6).contributions(token=11)
        >>> abs(found.values.sum() - logits[0, 6, 11]).item() < 1e-4
        True
        >>> found.heads.shape, len(found.top(3))
        (torch.Size([2, 4]), 3)
    """

    batch: int
    position: int
    token: int
    against: int | None
    parts: tuple[str, ...]
    values: Tensor
    logit: float
    remainder: float
    _word: Callable[[int], str] | None = None

    @property
    def heads(self) -> Tensor:
        """[L,H], what the heads of self-attention add."""
        return self._of_kind("head")

    @property
    def cross_heads(self) -> Tensor:
        """[L,H], what the heads of cross-attention add; [0,0] where there is none."""
        return self._of_kind("cross head")

    def _of_kind(self, kind: str) -> Tensor:
        found = [(part, value) for part, value in self._entries if part.kind == kind]
        layers = 1 + max((part.layer or 0 for part, _ in found), default=-1)
        heads = 1 + max((part.head or 0 for part, _ in found), default=-1)
        table = torch.zeros(layers, heads, dtype=torch.float64)
        for part, value in found:
            table[part.layer, part.head] = value
        return table

    @property
    def _entries(self) -> list[tuple[Part, float]]:
        return [
            (Part.named(name), value) for name, value in zip(self.parts, self.values.tolist(), strict=True)
        ]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k parts that add most in magnitude, largest first.

        Raises:
            ValueError: for k below 1.
        """
        entries = zip(self.parts, self.values.tolist(), strict=True)
        return sorted(entries, key=lambda entry: -abs(entry[1]))[: integer("k", k, 1)]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and strings, for JSON."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "_word"}
        return given | {
            "parts": list(self.parts),
            "values": self.values.tolist(),
            "word": self._told(self.token),
        }

    def _told(self, token: int) -> str:
        return str(token) if self._word is None else str(self._word(token))

    def __repr__(self) -> str:
        less = "" if self.against is None else f" less that of {self._told(self.against)!r}"
        lines = [f"position {self.position}: logit of {self._told(self.token)!r}{less} {self.logit:.3f}"]
        return "\n".join(lines + [f"  {value:+9.3f}  {name}" for name, value in self.top(_PARTS_SHOWN)])


def chosen(stages: tuple[Stage, ...], layers: object) -> tuple[int, ...]:
    """Places of the stages of some layers.

    Raises:
        ValueError, TypeError: for layers that the model does not have.
    """
    if layers is None:
        return tuple(range(len(stages)))
    count = 1 + max((stage.layer for stage in stages if stage.layer is not None), default=-1)
    given = list(layers) if isinstance(layers, (list, tuple, range)) else [layers]
    wanted = {integer("layers", each, -count, count - 1) % count for each in given}
    if not wanted:
        raise ValueError("layers: none was named. Leave it out for all.")
    return tuple(at for at, stage in enumerate(stages) if stage.layer in wanted)
