"""A profile: a row for each head and measure, and what it was measured on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.profiling.plot import Panel, write_plot
from sightline.profiling.profile_file import read_profile, write_profile
from sightline.profiling.row import FIGURES, ProfileRow
from sightline.profiling.statistics import STATISTICS


class Profile:
    """Head statistics over a corpus.

    Attributes:
        rows: a :class:`~sightline.profiling.row.ProfileRow` for each head and measure.
        info: what they were measured on: "model", "documents", "tokens", "notices", "settings". Empty where
            the rows come from a CSV file, which has no place for it.
    """

    def __init__(self, rows: Iterable[ProfileRow], info: dict[str, Any] | None = None) -> None:
        self.rows, self.info = list(rows), dict(info or {})

    @classmethod
    def load(cls, path: Path) -> Profile:
        """The profile in a file; see :func:`sightline.load_profile`."""
        return cls(*read_profile(path))

    @property
    def measures(self) -> list[str]:
        """The names of its measures, in the catalogue's order."""
        present = {row.measure for row in self.rows}
        return [name for name in STATISTICS if name in present]

    @property
    def stacks(self) -> list[str]:
        """The names of its stacks of layers."""
        return list(dict.fromkeys(row.stack for row in self.rows))

    def values(self, measure: str, statistic: str = "mean", stack: str | None = None) -> Tensor:
        """One number for each layer and head.

        Args:
            measure: one of ``measures``.
            statistic: a column: "mean", "std", "min", "max", "p10", "median", "p90" or "count".
            stack: one of ``stacks``; by default the first that has the measure.

        Returns:
            [L,H], float64; NaN where a layer has fewer heads, or no document has the number.

        Raises:
            ValueError: for an unknown measure, column or stack.
        """
        if statistic not in FIGURES:
            raise ValueError(f"statistic: must be one of {', '.join(FIGURES)}, got {statistic!r}.")
        rows = [row for row in self.rows if row.measure == measure and stack in (None, row.stack)]
        if not rows:
            where = "" if stack is None else f" in {stack!r} (stacks: {', '.join(self.stacks)})"
            raise ValueError(
                f"measure: there is no {measure!r}{where}; there are: {', '.join(self.measures)}."
            )
        rows = [row for row in rows if row.stack == rows[0].stack]
        shape = max(row.layer for row in rows) + 1, max(row.head for row in rows) + 1
        values = torch.full(shape, math.nan, dtype=torch.float64)
        for row in rows:
            values[row.layer, row.head] = getattr(row, statistic)
        return values

    def save(self, path: str | Path) -> None:
        """Writes the table to a .parquet or .csv file, whole or not at all.

        Raises:
            CommandError: for another suffix, a file that cannot be written, or .parquet without pyarrow.
        """
        write_profile(Path(path), self.rows, self.info)

    def plot(self, path: str | Path) -> None:
        """Draws each measure's means, layers by heads, into a .png, .svg or .pdf file.

        Raises:
            CommandError: for another suffix, a file that cannot be written, or without matplotlib.
        """
        write_plot(Path(path), self._heading(), list(self._panels()))

    def _heading(self) -> str:
        parts = [str(self.info.get("model", "head statistics"))]
        if "documents" in self.info:
            parts.append(f"{self.info['documents']:,} documents, {self.info['tokens']:,} tokens")
        return ": means over ".join(parts)

    def _panels(self) -> Iterator[Panel]:
        """For each measure the means of all stacks, one below the other."""
        for name in self.measures:
            stacks = list(dict.fromkeys(row.stack for row in self.rows if row.measure == name))
            maps = [self.values(name, stack=stack) for stack in stacks]
            heads = max(values.shape[1] for values in maps)
            padded = [torch.nn.functional.pad(v, (0, heads - v.shape[1]), value=math.nan) for v in maps]
            layers = [(stack, len(values)) for stack, values in zip(stacks, maps, strict=True)]
            yield Panel(STATISTICS[name], torch.cat(padded), layers)

    def __repr__(self) -> str:
        documents = f", {self.info['documents']} documents" if "documents" in self.info else ""
        heads = len({(row.stack, row.layer, row.head) for row in self.rows})
        name = self.info.get("model", "no name")
        return f"Profile({name}{documents}, {heads} heads, {len(self.measures)} measures)"
