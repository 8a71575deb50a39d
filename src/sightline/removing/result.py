"""What removing things did: numbers, a table, a picture, a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.common.atomic import write_atomically
from sightline.common.check import path as checked_path
from sightline.removing.figures import intervals, rank_correlation

FORMAT, VERSION = "sightline-effects", 1


@dataclass
class Effects:
    """What each removal changes: the metric with the thing removed, minus the metric of the whole model.

    Attributes:
        of: "heads" (values [L,H]), "layers" [L], "tokens" [N] or "edges" [E].
        how: what a removed head gives; of tokens and edges "zero".
        layers: the names of the layers, in order.
        changes: [T,...], for each text; NaN where nothing was computed (yet), or there is no such head.
        baselines: [T], the metric of the whole model.
        suggested: [...], what the weights suggest: of a head the mean of its largest weights, of a token the
            mean weight that others give it, of an edge its weight.
        labels: what tokens and edges are called; else empty.
        about: what the metric is.
        complete: whether everything was computed.
    """

    of: str
    how: str
    layers: list[str]
    changes: Tensor
    baselines: Tensor
    suggested: Tensor
    labels: list[str] = field(default_factory=list)
    about: str = "metric"
    complete: bool = True

    @property
    def values(self) -> Tensor:
        """What each removal changes, the mean over texts: negative where the thing had raised the metric."""
        return self.changes.mean(0)

    @property
    def baseline(self) -> float:
        """The metric of the whole model, the mean over texts."""
        return float(self.baselines.mean())

    @property
    def intervals(self) -> Tensor | None:
        """[...,2], 95 % bootstrap intervals of the values; ``None`` for one text."""
        return intervals(self.changes)

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of how much removals change with what the weights suggest.

        ``None`` where there are fewer than three numbers. Jain & Wallace 2019, "Attention is not
        explanation", ask this of tokens.
        """
        return rank_correlation(self.values.abs(), self.suggested)

    def order(self) -> list[tuple[int, ...]]:
        """The places of the values, from the one that changes most."""
        flat = self.values.flatten()
        chosen = [at for at in flat.abs().argsort(descending=True).tolist() if not math.isnan(flat[at])]
        shape = self.values.shape
        return [tuple(int(i) for i in torch.unravel_index(torch.tensor(at), shape)) for at in chosen]

    def name_of(self, place: tuple[int, ...]) -> str:
        """What was removed at a place."""
        if self.of == "heads":
            return f"{self.layers[place[0]]}, head {place[1]}"
        if self.of == "layers":
            return self.layers[place[0]]
        return self.labels[place[0]]

    def table(self, top: int = 10) -> str:
        """The largest effects as text, what the weights suggest beside them."""
        places = self.order()[:top]
        ends, values = self.intervals, self.values
        rows = [("", "changes", "" if ends is None else "95 %", "weights")]
        for place in places:
            between = "" if ends is None else f"{ends[place][0]:+.3g} to {ends[place][1]:+.3g}"
            suggested = float(self.suggested[place])
            weight = "" if math.isnan(suggested) else f"{suggested:.3f}"
            rows.append((self.name_of(place), f"{values[place]:+.4g}", between, weight))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"{self.about}: {self.baseline:.4g}; what removing each of the {self.of} changes"]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
        if self.correlation is not None:
            lines.append(f"rank correlation of changes and weights: {self.correlation:+.2f}")
        if not self.complete:
            lines.append("not complete: some were not computed")
        return "\n".join(lines)

    def plot(self, path: str | Path | None = None) -> Any:
        """A heat map of heads, bars of anything else: a figure of Matplotlib, written to ``path`` if given.

        Raises:
            CommandError: a path that cannot be written; ModuleNotFoundError: without Matplotlib.
        """
        from sightline.removing.picture import BARS, draw

        file = None if path is None else checked_path("path", path)
        title = f"what removing {self.of} changes"
        if self.of == "heads":
            return draw(self.values, self.layers, title, self.about, file)
        places = self.order()[:BARS] if len(self.values) > BARS else [(at,) for at in range(len(self.values))]
        shown = torch.stack([self.values[place] for place in places])
        return draw(shown, [self.name_of(place) for place in places], title, self.about, file)

    def save(self, path: str | Path) -> None:
        """Writes everything as JSON; the file is whole, or the old one."""
        write_atomically(checked_path("path", path), [json.dumps(self.as_json(), indent=1), "\n"])

    @classmethod
    def load(cls, path: str | Path) -> Effects:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: for another kind of file, or another version.
        """
        try:
            read = json.loads(checked_path("path", path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: is no file of effects: {error}") from None
        if not isinstance(read, dict) or read.get("format") != FORMAT:
            raise ValueError(f"{path}: is no file of effects.")
        if read.get("version") != VERSION:
            raise ValueError(f"{path}: has version {read.get('version')}; this Sightline reads {VERSION}.")
        return cls.of_json(read)

    def as_json(self) -> dict[str, Any]:
        """Everything, of plain lists and numbers; NaN is null."""
        ends = self.intervals
        return {
            "format": FORMAT,
            "version": VERSION,
            "of": self.of,
            "how": self.how,
            "about": self.about,
            "complete": self.complete,
            "layers": self.layers,
            "labels": self.labels,
            "baselines": self.baselines.tolist(),
            "values": _nulls(self.values),
            "intervals": None if ends is None else _nulls(ends),
            "suggested": _nulls(self.suggested),
            "correlation": self.correlation,
            "changes": _nulls(self.changes),
        }

    @classmethod
    def of_json(cls, read: dict[str, Any]) -> Effects:
        """The same again."""
        try:
            return cls(
                of=read["of"],
                how=read["how"],
                layers=list(read["layers"]),
                changes=_numbers(read["changes"]),
                baselines=_numbers(read["baselines"]),
                suggested=_numbers(read["suggested"]),
                labels=list(read["labels"]),
                about=read["about"],
                complete=bool(read["complete"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"is no whole file of effects: {error!r}") from None

    def __repr__(self) -> str:
        state = "" if self.complete else ", not complete"
        return f"Effects({self.of} {list(self.values.shape)}, baseline {self.baseline:.4g}{state})"


def _nulls(tensor: Tensor) -> Any:
    return _without_nan(tensor.tolist())


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if math.isnan(value) else value


def _numbers(value: Sequence[Any]) -> Tensor:
    def filled(one: Any) -> Any:
        return [filled(each) for each in one] if isinstance(one, list) else math.nan if one is None else one

    return torch.tensor(filled(list(value)), dtype=torch.float64)
