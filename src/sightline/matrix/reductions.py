"""Any reduction of the matrix by a function of weights and scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast, get_args, overload

from torch import Tensor

from sightline.backends import Work, choose, decide
from sightline.backends.contract import Over, Summand
from sightline.common.check import check_device, choice, fits
from sightline.common.dispatcher import outside
from sightline.matrix import compiled
from sightline.matrix.blocks import Blocks
from sightline.matrix.followed.reduction import Function, Operation, neutral, reduced
from sightline.matrix.recognised import recognised
from sightline.matrix.reduction_pass import Pass
from sightline.matrix.transforms import left_behind

_AXES = ("batch", "heads", "queries", "keys")


class Reductions(Blocks):
    """Sums, maxima and minima of functions of the weights."""

    @overload
    def reduce(
        self, f: Function, over: str | Iterable[str] = ..., op: str = ..., extra: Iterable[Tensor] = ...
    ) -> Tensor: ...

    @overload
    def reduce(
        self,
        f: Sequence[Function],
        over: str | Iterable[str] = ...,
        op: str = ...,
        extra: Iterable[Tensor] = ...,
    ) -> tuple[Tensor, ...]: ...

    def reduce(
        self,
        f: Function | Sequence[Function],
        over: str | Iterable[str] = "keys",
        op: str = "sum",
        extra: Iterable[Tensor] = (),
    ) -> Tensor | tuple[Tensor, ...]:
        """Reduces a function of weights and scores over keys or queries, exactly, block by block.

        ``Σ_j f(w[i,j], s[i,j], i, j)`` for each query i over the keys that it may see; likewise over queries,
        and with ``op`` the largest or smallest. Skipped blocks stay skipped, and memory is linear in the
        sequence. Gradients of any order reach query, key, biases, sinks and ``extra`` (``detach=False``).

        Args:
            f: an elementwise function of a block's weights and masked scores, [b,H,n,m], float32 or better,
                and of the numbers i [n,1] of its queries and j [m] of its keys, int64; or a sequence of such
                functions, which share one pass. Hidden pairs have weight 0 and score -inf and are left out.
            over: "keys" gives [B,H,N], "queries" [B,H,M]; several of "batch", "heads", "queries" and "keys"
                take those axes away, too.
            op: "sum", "max" or "min". Over nothing they are 0, -inf and inf. Where several pairs are largest,
                the gradient goes to the first.
            extra: tensors that broadcast to [B,H,N,M]; ``f`` gets each, cut to the block, after j.

        Returns:
            The reduction, float32 or better; a tuple for a sequence of functions.

        Raises:
            ValueError: for other axes (neither keys nor queries leaves a dense matrix), another ``op``, a
                function that is not elementwise or that uses a tensor with gradients which is not in
                ``extra``; TypeError where it gives no real tensor.

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4), mask=sightline.causal())
            >>> squares = A.reduce(lambda w, s, i, j: w**2)
            >>> back, spread = A.reduce(
            ...     (lambda w, s, i, j: w * (i - j), lambda w, s, i, j: w * s), over="queries"
            ... )
            >>> largest = A.reduce(lambda w, s, i, j: s, over=("heads", "queries"), op="max")
            >>> squares.shape, spread.shape, largest.shape
            (torch.Size([1, 2, 10]), torch.Size([1, 2, 10]), torch.Size([1, 10]))
        """
        self._unchanged()
        several = not callable(f)
        functions = list(f) if isinstance(f, Sequence) else [f]
        if not functions or not all(map(callable, functions)):
            raise TypeError(
                f"reduce f: expected a function of (weights, scores, i, j) or a sequence of them, "
                f"got {type(f).__name__}."
            )
        choice("reduce op", op, get_args(Operation))
        asked = _Asked(functions, *_axes(over), cast(Operation, op), self._extras(extra))
        found = [self._rest(one, asked) for one in self._reduced(asked)]
        return tuple(found) if several else found[0]

    def _extras(self, extra: Iterable[Tensor]) -> list[Tensor]:
        if isinstance(extra, Tensor):
            raise TypeError("reduce extra: expected a tuple of tensors, got a tensor. Write extra=(tensor,).")
        made = []
        for tensor in extra:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"reduce extra: expected tensors, got {type(tensor).__name__}.")
            check_device("reduce extra", tensor, self.device)
            if self._dropped[1] and tensor.dim() > 2:
                tensor = tensor.unsqueeze(-3)
            made.append(fits("reduce extra", tensor, ("B", "H", "N", "M"), self.sizes))
        return made

    def _reduced(self, asked: _Asked) -> list[Tensor]:
        """[B,H,N] or [B,H,M] for each function."""
        followed = self._followed or any(one.requires_grad for one in asked.extra)
        by_kernels = {} if followed else self._by_kernels(asked)
        left = [at for at in range(len(asked.functions)) if at not in by_kernels]
        if followed:
            return self._followed_reductions(asked)
        by_blocks = self._by_blocks(asked, [asked.functions[at] for at in left]) if left else []
        by_kernels |= dict(zip(left, by_blocks, strict=True))
        return [by_kernels[at] for at in range(len(asked.functions))]

    def _by_kernels(self, asked: _Asked) -> dict[int, Tensor]:
        """The sums that a backend has kernels for, by the place of their function."""
        found = {}
        for at, function in enumerate(asked.functions):
            summand = asked.summand(function)
            if summand is not None:
                backend = choose(self._problem, Work("sum"))
                found[at] = backend.summed(self._problem, self._known_lse(), summand, asked.over)
        return found

    def _by_blocks(self, asked: _Asked, functions: list[Function]) -> list[Tensor]:
        """The other reductions, in one pass."""
        once, pairs = Pass(self, functions, asked.over, asked.op, asked.extra), math.prod(self.sizes)
        by_compiled = all(compiled.why_not(one, self.device, pairs) is None for one in functions)
        compiled.asked_for(functions, pairs)
        return once.run_compiled() if by_compiled else once.run()

    def _followed_reductions(self, asked: _Asked) -> list[Tensor]:
        extra = [left_behind(one) for one in asked.extra]
        with outside():
            once = Pass(self._standing(), asked.functions, asked.over, asked.op, extra)
            values = tuple(once.run())
        winners = [None if asked.op == "sum" else one for one in once.winners]
        made = reduced(asked.functions, asked.over, self._problem, asked.extra, winners, lambda: values)
        return [
            one if winner is None else one.masked_fill(winner < 0, neutral(asked.op))
            for one, winner in zip(made, winners, strict=True)
        ]

    def _rest(self, found: Tensor, asked: _Asked) -> Tensor:
        """The reduction over the other axes as well, without those that an integer index took away."""
        dims = [axis for axis, name in enumerate(("batch", "heads", asked.kept)) if name in asked.axes]
        gone = [axis for axis in (0, 1) if self._dropped[axis]]
        if dims:
            if asked.op == "sum":
                found = found.sum(dims, keepdim=True)
            else:
                found = found.amax(dims, True) if asked.op == "max" else found.amin(dims, True)
        for axis in sorted({*dims, *gone}, reverse=True):
            found = found.squeeze(axis)
        return found

    def _told_reduction(self, function: Function) -> str:
        """How a sum of a function would be computed."""
        if self.requires_grad:
            return "plain PyTorch: gradients are wanted"
        if recognised(function) is None:
            why = compiled.why_not(function, self.device, math.prod(self.sizes))
            how = "plain PyTorch, compiled" if why is None else "plain PyTorch"
            return f"{how}: no kernel knows this function" + (f", and {why}" if why else "")
        backend, _, reason = decide(self._problem, Work("sum"))
        return backend.title if reason is None else f"{backend.title}: {reason}"


class _Asked(NamedTuple):
    """What is reduced: by which functions, over which of keys and queries first, over which axes in all."""

    functions: list[Function]
    over: Over
    axes: frozenset[str]
    op: Operation
    extra: list[Tensor]

    @property
    def kept(self) -> str:
        """The axis of the first reduction that is left."""
        return "queries" if self.over == "keys" else "keys"

    def summand(self, function: Function) -> Summand | None:
        """What a backend knows the function as."""
        return recognised(function) if self.op == "sum" and not self.extra else None


def _axes(over: str | Iterable[str]) -> tuple[Over, frozenset[str]]:
    axes = frozenset([over] if isinstance(over, str) else over)
    unknown = sorted(axes - set(_AXES))
    if unknown:
        raise ValueError(f"reduce over: unknown axes {', '.join(unknown)}; known: {', '.join(_AXES)}.")
    if not axes & {"keys", "queries"}:
        named = ", ".join(sorted(axes)) or "nothing"
        raise ValueError(
            f"reduce over: {named} leaves a matrix of all queries and keys. Reduce over keys or queries as "
            "well, or use A.dense()."
        )
    return ("keys" if "keys" in axes else "queries"), axes
