"""Others who sum up the columns of the matrix from queries and keys: what each key received."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class ColumnSums(NamedTuple):
    """A package that gives column sums, or something made of them.

    Attributes:
        package: on PyPI.
        function: ``module:function``.
        call: the function with query, key and whether the mask is causal, from the bottom right.
        of_sums: the same made of column sums [B,H,M] of N queries, to be compared with.
    """

    package: str
    function: str
    call: Callable[[Callable[..., Tensor], Tensor, Tensor, bool], Tensor]
    of_sums: Callable[[Tensor, int], Tensor]

    def missing(self) -> str:
        """ "" if it is installed, otherwise what to install."""
        there = importlib.util.find_spec(self.function.partition(":")[0]) is not None
        return "" if there else f"not installed: pip install {self.package}"

    def version(self) -> str:
        """Of what is installed."""
        return importlib.metadata.version(self.package)

    def ready(self, query: Tensor, key: Tensor, causal: bool) -> Callable[[], Tensor]:
        """What is timed."""
        module, name = self.function.split(":")
        function = getattr(importlib.import_module(module), name)
        return lambda: self.call(function, query, key, causal)


#: By name. Both are made for SparseVILA (Khaki et al., ICCV 2025), the second after the first.
COLUMN_SUMS: dict[str, ColumnSums] = {
    "flash-colsum": ColumnSums(
        "flash-colsum",
        "flash_colsum:flash_colsum",
        lambda function, query, key, causal: function(query, key, is_causal=causal),
        lambda sums, queries: sums.mean(1) / queries,  # the mean over heads and queries, [B,M]
    ),
    "flash-colreduce": ColumnSums(
        "flash-colreduce",
        "flash_colreduce:flash_colreduce",
        lambda function, query, key, causal: function(query, key, "sum", is_causal=causal),
        lambda sums, queries: sums,
    ),
}
