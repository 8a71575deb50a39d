"""What every backend offers: the contract between the engine and the wings that compute.

Who computes with attention asks :func:`sightline.backends.choose` for a backend and calls these methods; no
room outside this one knows which wings there are. A new wing is a class with these methods and a line in
``wings.py``.

Letters: B batch, H heads, N queries, M keys, E value width, F columns of a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

from torch import Tensor

from sightline.backends.problem import Bare, Problem
from sightline.positions.align import Align

ALL = slice(None)

#: The names of the readouts.
READOUTS = ("entropy", "received", "max", "max_score", "topk", "distance", "mass")

Over = Literal["keys", "queries"]
Reduction = Literal["mean", "max", "sum"]


class Values(NamedTuple):
    """Largest weights and the keys that have them, both [B,H,N] or [B,H,N,k]; index -1 for "no key"."""

    values: Tensor
    indices: Tensor


class Request(NamedTuple):
    """A readout that is asked for.

    Attributes:
        name: of ``READOUTS``.
        k: how many weights, for "topk".
        segments: [M] or [B,M] integers from 0, for "mass".
        align: where query i stands, for "distance".
    """

    name: str
    k: int = 0
    segments: Tensor | None = None
    align: Align = "bottom-right"


Answer: TypeAlias = Tensor | Values


Function = Literal[
    "weight",
    "weight_squared",
    "score",
    "weight_times_score",
    "weight_times_distance",
    "weight_above",
]
#: In the order in which the native core numbers them.
FUNCTIONS: tuple[Function, ...] = get_args(Function)


class Summand(NamedTuple):
    """A function of a visible pair, to be summed up.

    Attributes:
        function: of ``FUNCTIONS``: w, w², s, w·s, w·|i - j|, or 1 where w > threshold, else 0.
        threshold: for "weight_above".
    """

    function: Function
    threshold: float = 0.0


class OfEntropy(NamedTuple):
    """The entropy -Σ w ln w of each row, without dropout, and its gradient: both [B,H,N]."""

    entropy: Tensor
    grad: Tensor


class Cells(NamedTuple):
    """Which of ``size`` cells each key belongs to: of_key [1|B,M], from 0."""

    of_key: Tensor
    size: int


class PooledRegion(NamedTuple):
    """A region of the matrix, cut into cells.

    Attributes:
        rows, cols: slices of step 1.
        height, width: cells along the rows and the columns.
        reduce: what a cell shows of its visible weights.
    """

    rows: slice
    cols: slice
    height: int
    width: int
    reduce: Reduction


class Work(NamedTuple):
    """What a backend is to do with a problem.

    Attributes:
        name: "attention" (forward and backward), "tangent", "lse", "cells", "pool", "product",
            "transposed_product", "sum", or the name of a readout.
        rows: which queries it is done for.
        k: how many weights of a row, for "topk".
        gradients: whether autograd has to follow the computation itself.
        moved: the fields that have a tangent, for "tangent".
    """

    name: str
    rows: slice = ALL
    k: int = 0
    gradients: bool = False
    moved: tuple[str, ...] = ()


ATTENTION = Work("attention")


class Obstacle(NamedTuple):
    """Why a backend cannot do some work, as the end of a sentence, and the remedy, a sentence; or ""."""

    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.reason}. {self.remedy}" if self.remedy else self.reason


class Pass(NamedTuple):
    """How one pass, forward or backward, runs.

    Attributes:
        backend: "cpu" (native kernels), "cuda" (PyTorch's kernels for GPUs) or "chunked" (plain PyTorch).
        path: "blocks" (64 queries of one head at a time), "decode" (few queries, many keys: each key and
            value is read once for all query heads of its group), "rows" (chunked: blocks of full
            rows), or the kernel's name (cuda).
        level: the instruction-set level of the native core; ``None`` for PyTorch's own.
        threads: that take part; for a backward pass and for PyTorch's own: at most.
        arithmetic: what is multiplied; sums are float32, or float64 for float64.
    """

    backend: str
    path: str
    level: str | None
    threads: int
    arithmetic: str

    def __str__(self) -> str:
        if self.backend == "cuda":
            return f"PyTorch's {self.path} kernel for CUDA, {self.arithmetic}"
        code = "plain PyTorch" if self.level is None else f"native, {self.level}"
        return f"{code}, {self.path}, {self.threads} thread{'s' * (self.threads != 1)}, {self.arithmetic}"


class Plan(NamedTuple):
    """How a backend would run a problem.

    Attributes:
        forward, backward: how each pass runs.
        computed: the share of the matrix that is computed; the rest is skipped.
        reasons: why a slower path is taken, with the remedy.
    """

    forward: Pass
    backward: Pass
    computed: float
    reasons: tuple[str, ...] = ()


class Backend(Protocol):
    """One way to compute attention and what is read off its matrix.

    All results are float32 or better, but for the context and the gradients of query, key and value, which
    have the query's dtype, and that of bias, which may have its own. Contexts and gradients are laid out as
    ``empty_context`` and ``empty_gradient`` of ``problem.py`` make room for them.
    """

    @property
    def name(self) -> str:
        """What :func:`sightline.backend` calls it."""

    @property
    def title(self) -> str:
        """What explanations call it."""

    @property
    def kernels(self) -> str:
        """The same as a noun."""

    #: Kinds of devices that it is made for; none for one that runs wherever PyTorch does.
    devices: tuple[str, ...] = ()

    @property
    def cost(self) -> int:
        """How many times as long a weight takes as in the fastest backend, roughly."""

    def why_not(self, problem: Problem, work: Work) -> Obstacle | None:
        """Why it cannot do this, or ``None`` if it can."""

    def facts(self) -> Mapping[str, str]:
        """What :func:`sightline.info` says of it."""

    def plan(self, problem: Problem) -> Plan:
        """How it would run attention; computes none."""

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
        """(context [B,H,N,E], lse [B,H,N] in ``lse_dtype``); without ``want_lse`` the second may be None."""

    def forward_bare(self, bare: Bare, want_lse: bool) -> tuple[Tensor, Tensor | None] | None:
        """:meth:`forward` of tensors that fit together, by a shorter way; ``None`` where it has none."""
        return None

    def forward_received(self, problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
        """(context, lse), where what each key received, its weights summed over the queries, is added too.

        Args:
            received: [B,H,M] or [B,G,M], float32 (float64 for float64): what is added to. In the second the
                query heads of a key/value head are summed as well. Dropout is left out.
        """

    def backward(
        self,
        problem: Problem,
        context: Tensor,
        lse: Tensor,
        grad_context: Tensor,
        grad_lse: Tensor | None,
        wanted: Collection[str],
        of_entropy: OfEntropy | None = None,
    ) -> dict[str, Tensor]:
        """The wanted gradients, by name of the problem's field; in the field's dtype or a wider one."""

    def backward_bare(
        self, bare: Bare, context: Tensor, lse: Tensor, grad_context: Tensor, wanted: Sequence[bool]
    ) -> list[Tensor | None] | None:
        """The gradients of query, key and value after :meth:`forward_bare`; ``None`` where it has no way."""
        return None

    def tangent(
        self, problem: Problem, tangents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(context, lse, tangent of the context, tangent of the lse).

        Args:
            tangents: of the fields that gradients reach, by name; the others stand still.
        """

    def lse(self, problem: Problem, rows: slice = ALL) -> Tensor:
        """lse [B,H,n] of some rows, without the weighted sum."""

    def readouts(self, problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
        """Several readouts by name from one pass, given the lse [B,H,N] of all rows."""

    def summed(self, problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
        """Σ of a function over each row's visible keys, [B,H,N], or over each key's queries, [B,H,M]."""

    def cells(
        self,
        problem: Problem,
        lse: Tensor,
        rows: slice,
        cols: slice,
        cells: Cells | None,
        fields: Collection[str],
    ) -> dict[str, Tensor]:
        """What some rows give to a region's keys, by name.

        Args:
            lse: [B,H,n], that of the chosen rows.
            cols: a slice of step 1.
            cells: of the m chosen keys, in ascending order, for the cell fields.
            fields: of cell_sum, cell_max (-1 where nothing is visible) and cell_seen, [B,H,n,w]; entropy,
                [B,H,n]; received, [B,H,m].
        """

    def pool(self, problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
        """A picture of a region, [B,H,height,width], given the lse [B,H,N] (right for the region's rows).

        Cell (r, c) covers rows r·n//height to (r+1)·n//height and the columns alike. Mean and max run over
        visible cells; a wholly masked cell is NaN (0 for a sum).
        """

    def product(self, problem: Problem, lse: Callable[[], Tensor], x: Tensor) -> Tensor:
        """The matrix times x [B|1, H|1, M, F]: [B,H,N,F]; ``lse`` gives that of all rows, where needed."""

    def transposed_product(self, problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
        """The transposed matrix times x [B|1, H|1, N, F]: [B,H,M,F]."""
