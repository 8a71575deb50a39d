"""A score as a table: what each part of the query and each part of the key bring to it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor

from sightline.common.check import choice, integer

_SHOWN = 6


class Entry(NamedTuple):
    """One contribution to a score.

    Attributes:
        query: the part of the query that it comes from; ``None`` for all of them together.
        key: the part of the key; ``None`` for all of them together.
        value: what it adds to the score.
    """

    query: str | None
    key: str | None
    value: float

    def __str__(self) -> str:
        return " · ".join(part for part in (self.query, self.key) if part is not None)


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """A score in parts; see :class:`Why` and :class:`MeanWhy`."""

    name: str
    head: int
    query_parts: tuple[str, ...]
    key_parts: tuple[str, ...]
    table: Tensor
    score: float
    remainder: float
    contrast: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all parts, those of the query first."""
        return tuple(dict.fromkeys(self.query_parts + self.key_parts))

    @property
    def of_query(self) -> Tensor:
        """What each part of the query brings, with the whole key: [P]."""
        return self.table.sum(1)

    @property
    def of_key(self) -> Tensor:
        """What each part of the key brings, with the whole query: [Q]."""
        return self.table.sum(0)

    def top(self, k: int = 5, of: str = "key") -> list[Entry]:
        """The k contributions that are largest in magnitude, largest first.

        Args:
            k: how many; fewer where there are fewer.
            of: "key" or "query" for the parts of one side, "pairs" for entries of the table.

        Raises:
            ValueError: for k below 1, or another side.
        """
        k = integer("k", k, 1)
        choice("of", of, ("key", "query", "pairs"))
        if of == "key":
            entries = [Entry(None, *each) for each in zip(self.key_parts, self.of_key.tolist(), strict=True)]
        elif of == "query":
            of_query = zip(self.query_parts, self.of_query.tolist(), strict=True)
            entries = [Entry(part, None, value) for part, value in of_query]
        else:
            return self._top_pairs(k)
        return sorted(entries, key=lambda entry: -abs(entry.value))[:k]

    def _top_pairs(self, k: int) -> list[Entry]:
        flat = self.table.flatten()
        places = flat.abs().topk(min(k, len(flat))).indices.tolist()
        width = len(self.key_parts)
        return [
            Entry(self.query_parts[at // width], self.key_parts[at % width], float(flat[at])) for at in places
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and strings, for JSON."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given |= {"of_query": self.of_query, "of_key": self.of_key}
        return {name: _plain(value) for name, value in given.items()}

    def __repr__(self) -> str:
        left, right = ([_shown(entry) for entry in self.top(_SHOWN, of)] for of in ("key", "query"))
        left, right = ["by part of the key", *left], ["by part of the query", *right]
        width = max(map(len, left))
        rows = [f"  {a:{width}}   {b}" for a, b in zip_longest(left, right, fillvalue="")]
        return "\n".join([self._headline(), *map(str.rstrip, rows)])

    def _headline(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} does not say what it is")

    @property
    def _what(self) -> str:
        return "score above that of the keys seen" if self.contrast else "score"


def _shown(entry: Entry) -> str:
    return f"{entry.value:+9.3f}  {entry}"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def check_sum(worst: float, allowed: float) -> None:
    """Raises where the parts do not add up to the score within what rounding explains."""
    if not worst <= allowed:
        raise ValueError(
            f"why: the sum of the parts differs from the score by {worst:.3g} (rounding explains "
            f"{allowed:.1g}). The model ran otherwise than its layers say: weights were changed after the "
            "trace, layers were replaced or hooked, or entries of a batch went on from different lengths."
        )
