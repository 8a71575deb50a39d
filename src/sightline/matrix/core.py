"""What an attention matrix is: a lowered problem and one number per row; and lazy slices of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor

from sightline.backends import FIELDS, Problem, Work, tensors, with_tensors
from sightline.backends.problem import compute_dtype, lse_dtype, tensors_in_order
from sightline.backends.row_sums import settled_for_blocks
from sightline.backends.select import select_batch, select_heads
from sightline.backends.softmax import SumsForBlock
from sightline.backends.sound import check_sound
from sightline.common.dispatcher import is_transformed, outside
from sightline.common.vocabulary import STAGES, Stage
from sightline.matrix.followed import followed
from sightline.matrix.indexing import ALL, Entry, as_slice
from sightline.matrix.like_tensor import LikeTensor
from sightline.matrix.row_lse import RowLse, cut
from sightline.matrix.transforms import left_behind, refuse_vmap


class EntropyNode(NamedTuple):
    """Where the gradient of the rows' entropy joins that of the context, in the backward pass of attention.

    Attributes:
        zeros: [B,H,N], an output of attention: what is added to it is differentiated with the context.
        know: takes the entropy, which that pass needs.
    """

    zeros: Tensor
    know: Callable[[Tensor], None]

    def join(self, entropy: Tensor) -> Tensor:
        """The entropy such that its gradient goes there."""
        self.know(entropy)
        return entropy + self.zeros.to(entropy.dtype)


class MatrixCore(LikeTensor):
    """Identity, laziness and the lse; the other rooms of the matrix build on it."""

    _problem: Problem
    _lse: Tensor | None
    _rows: RowLse | None = None  # as much of the lse as is known where the whole is not
    _entropy_node: EntropyNode | None = None
    _dropped: tuple[bool, bool]  # whether an integer index took the batch and the head axis away
    _versions: tuple[int | None, ...]
    #: Why the weights may not be those of the model that the matrix was caught in; ``None`` if they are.
    reason: str | None = None

    @classmethod
    def of_problem(cls, problem: Problem, lse: Tensor | None = None, detach: bool = True) -> Self:
        """The matrix of a lowered problem; dropout is left out."""
        leave: Callable[[Tensor], Tensor] = Tensor.detach
        if is_transformed():
            refuse_vmap(problem.query, problem.key)
            leave = left_behind
        if lse is not None:
            lse = leave(lse)
        return cls._made(_bare(problem, leave if detach else None), lse, (False, False))

    @classmethod
    def _made(cls, problem: Problem, lse: Tensor | None, dropped: tuple[bool, bool]) -> Self:
        b, h, n, m = problem.shape
        shape: tuple[int, ...] = (b, h, n, m)
        if dropped != (False, False):
            shape = (*[size for size, gone in zip((b, h), dropped, strict=True) if not gone], n, m)
        matrix = cls._without_storage(shape, problem.query.dtype, problem.query.device)
        matrix._problem = problem
        matrix._lse = lse
        matrix._dropped = dropped
        matrix._versions = _versions(problem)
        return matrix

    # --- what it is ---------------------------------------------------------------------------------

    @property
    def problem(self) -> Problem:
        """The lowered problem: query, key, ranges and so on."""
        return self._problem

    @property
    def query(self) -> Tensor:
        """The queries, [B,H,N,D]."""
        return self._problem.query

    @property
    def key(self) -> Tensor:
        """The keys, [B,G,M,D]."""
        return self._problem.key

    @property
    def value(self) -> Tensor | None:
        """The values, [B,G,M,E]; ``None`` where the matrix was made without."""
        return self._problem.value

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(B, H, N, M), with the axes that an integer index took away."""
        return self._problem.shape

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages there are: "capped" and "biased" only with a cap or bias, "context" with a value."""
        problem = self._problem
        weighed = problem.bias is not None or problem.slopes is not None or problem.table is not None
        there = {"capped": problem.softcap is not None, "biased": weighed, "context": self.value is not None}
        return tuple(stage for stage in STAGES if there.get(stage, True))

    @property
    def verified(self) -> bool:
        """False for a matrix of a traced model that was found to differ from it; ``reason`` says why."""
        return self.reason is None

    def _wants_grad(self) -> bool:
        softcap = self._problem.softcap
        learned = isinstance(softcap, Tensor) and softcap.requires_grad
        return learned or any(
            one is not None and one.requires_grad for one in tensors_in_order(self._problem)
        )

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{type(self).__name__}(shape={list(self.shape)}, dtype={self.dtype}, device={self.device})"

    # --- the same matrix, elsewhere or in part ------------------------------------------------------

    def four_axes(self) -> Self:
        """The matrix as [B,H,N,M], with the axes that an integer index took away; still lazy.

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
            >>> A[0, 1].shape, A[0, 1].four_axes().shape
            (torch.Size([10, 10]), torch.Size([1, 1, 10, 10]))
        """
        whole = self._derive(self._problem, self._lse, (False, False))
        if self._lse is None and not self._followed:
            whole._rows = self._known_rows()  # what the one computes, the other knows
        return whole

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The matrix on another device or in another dtype, still lazy; arguments as ``Tensor.to``."""
        moved = {name: _moved(tensor, *args, **kwargs) for name, tensor in tensors(self._problem).items()}
        query = moved["query"]
        lse = None if self._lse is None else self._lse.to(query.device, lse_dtype(query))
        return self._derive(with_tensors(self._problem, moved), lse)

    def cpu(self) -> Self:  # type: ignore[override]
        """The matrix on the CPU, still lazy."""
        return self.to("cpu")

    def detach(self) -> Self:
        """The matrix without autograd, still lazy."""
        detached = {name: tensor.detach() for name, tensor in tensors(self._problem).items()}
        lse = None if self._lse is None else self._lse.detach()
        return self._derive(with_tensors(self._problem, detached), lse)

    def clone(self) -> Self:  # type: ignore[override]
        """The matrix with tensors of its own."""
        cloned = {name: tensor.clone() for name, tensor in tensors(self._problem).items()}
        return self._derive(with_tensors(self._problem, cloned), self._lse)

    def select(  # type: ignore[override]
        self, batch: int | slice = ALL, heads: int | slice = ALL, **pytorch: int
    ) -> Self:
        """Some batch entries and heads, lazily; an integer takes its axis away, as in ``A[batch, heads]``.

        With ``dim=`` and ``index=`` as ``torch.select``.
        """
        if pytorch:
            return cast(Self, self.dense().select(**pytorch))
        drop = (self._dropped[0] or isinstance(batch, int), self._dropped[1] or isinstance(heads, int))
        return self._selected(batch, heads, drop)

    def _selected(self, batch: Entry, heads: Entry, drop: tuple[bool, bool]) -> Self:
        """Some batch entries and heads, lazily, without the axes that ``drop`` names."""
        entries: slice | list[int]
        those: slice | list[int]
        if isinstance(batch, slice) and batch == ALL and isinstance(heads, slice) and heads == ALL:
            entries, those, problem = slice(None), slice(None), self._problem
        else:
            b, h, _, _ = self.sizes
            entries, those = _places(batch, b, "B"), _places(heads, h, "H")
            problem = select_heads(select_batch(self._problem, entries), those)
        chosen = self._derive(problem, None if self._lse is None else cut(self._lse, entries, those), drop)
        if self._lse is None and not self._followed:
            chosen._rows = self._known_rows().select(entries, those)
        return chosen

    def _derive(self, problem: Problem, lse: Tensor | None, drop: tuple[bool, bool] | None = None) -> Self:
        self._unchanged()
        matrix = self._made(problem, lse, self._dropped if drop is None else drop)
        matrix.reason = self.reason
        return matrix

    def _unchanged(self) -> None:
        """Raises where tensors were written to since the matrix was made: it would compute from others."""
        now = _versions(self._problem)
        if now == self._versions:
            return
        for field, made, version in zip(FIELDS, self._versions, now, strict=True):
            if version != made:
                raise RuntimeError(
                    f"{field.name}: changed in place after this matrix was made (version {made}, "
                    f"now {version}). Make the matrix from {field.name}.clone()."
                )

    def __reduce_ex__(self, _: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # What copies, pickles and torch.save make the matrix from again: tensors and numbers.
        self._unchanged()
        problem = self._problem
        numbers = {"scale": problem.scale, "softcap": problem.softcap}
        return rebuilt, (type(self), tensors(problem), numbers, self._lse, self._dropped, self.reason)

    def _squeeze(self, tensor: Tensor) -> Tensor:
        """Without the batch and head axes that an integer index took away."""
        if self._dropped[1]:
            tensor = tensor.squeeze(1)
        return tensor.squeeze(0) if self._dropped[0] else tensor

    # --- the lse ------------------------------------------------------------------------------------

    @property
    def lse(self) -> Tensor:
        """ln Σ exp(masked) of each row, sinks included, float32 or better: [B,H,N]; -inf for an empty row."""
        return self.exact_lse.to(compute_dtype(self._problem))

    @property
    def exact_lse(self) -> Tensor:
        """The same in float64, where the device has it: what weights are made with."""
        self._unchanged()
        return self._squeeze(self._full_lse())

    def lse_of(self, rows: slice) -> Tensor:
        """The lse of some rows, computed for no others and then kept: [B,H,n]; see :attr:`lse`."""
        self._unchanged()
        lse = self._lse_of(as_slice(rows, self.sizes[2], "N"))
        return self._squeeze(lse).to(compute_dtype(self._problem))

    def unknown_lse(self, rows: slice) -> int:
        """How many rows' lse :meth:`lse_of` would have to compute, over all batch entries and heads."""
        return 0 if self._lse is not None else self._known_rows().missing(rows)

    def _lse_of(self, rows: slice) -> Tensor:
        """The lse of some rows and no others, [B,H,n]."""
        if self._lse is not None or self._followed:
            return self._full_lse()[:, :, rows]
        self._known_rows().fill(self._problem, rows)
        return self._known_rows().values[:, :, rows]

    def _lse_right_for(self, rows: slice) -> Tensor:
        """An lse [B,H,N] that is right for ``rows``; no others are computed where few of them are known."""
        n = self.sizes[2]
        if self._lse is not None or self._followed or 4 * len(range(n)[rows]) >= n:
            return self._full_lse()
        self._known_rows().fill(self._problem, rows)
        return self._known_rows().values

    def _sums_for(self, rows: slice, cols: slice) -> SumsForBlock:
        """What blocks of some rows and columns make their weights with."""
        return settled_for_blocks(self._problem, self._lse_right_for(rows), rows, cols)

    def _full_lse(self) -> Tensor:
        """That of all rows; derivatives reach what it is made of, each time anew."""
        known = self._known_lse()
        return followed("lse", self._problem, known) if self._followed else known

    def _known_lse(self) -> Tensor:
        """The same as a number, which no derivative reaches."""
        if self._lse is None:
            bare = _bare(self._problem, left_behind) if self._followed else self._problem
            with outside():
                self._known_rows().fill(bare, ALL)
                self._lse = self._known_rows().values
        return self._lse

    def _standing(self) -> Self:
        """The same matrix where no derivative reaches it, [B,H,N,M]."""
        if not self._followed:
            return self._made(self._problem, self._known_lse(), (False, False))
        return self._made(_bare(self._problem, left_behind), self._known_lse(), (False, False))

    def _known_rows(self) -> RowLse:
        if self._rows is None:
            self._rows = RowLse.of(self._problem)
        return self._rows

    @property
    def _followed(self) -> bool:
        """Whether somebody may differentiate what is read."""
        return self.requires_grad or is_transformed()

    def _work(self, name: str, rows: slice = ALL, k: int = 0) -> Work:
        """What a backend is asked to do."""
        return Work(name, rows, k, self._followed)


def _bare(problem: Problem, leave: Callable[[Tensor], Tensor] | None) -> Problem:
    """The problem without dropout, its tensors brought out of autograd by ``leave``."""
    given, softcap = tensors_in_order(problem), problem.softcap
    if leave is not None:
        given = tuple([None if tensor is None else leave(tensor) for tensor in given])
        softcap = float(leave(softcap)) if isinstance(softcap, Tensor) else softcap
    # By place, as in the class: by name takes twice as long.
    query, key, value, *terms, _ = cast(tuple[Any, ...], given)
    return Problem(query, key, value, problem.scale, softcap, *terms)


def _versions(problem: Problem) -> tuple[int | None, ...]:
    """How often each field was written to; tensors made under inference_mode do not count it."""
    each = tensors_in_order(problem)
    return tuple([None if one is None or one.is_inference() else one._version for one in each])


def _places(entry: Entry, length: int, axis: str) -> slice | list[int]:
    """A slice where it can be one: its tensors are views."""
    if not isinstance(entry, Tensor):
        return as_slice(entry, length, axis)
    listed: list[int] = entry.tolist()
    if listed and listed == list(range(listed[0], listed[-1] + 1)):
        return slice(listed[0], listed[-1] + 1, 1)
    return listed


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to``, but integers and bools keep their dtype."""
    if tensor.is_floating_point():
        return tensor.to(*args, **kwargs)
    return tensor.to(torch.empty(0, dtype=tensor.dtype, device=tensor.device).to(*args, **kwargs).device)


def rebuilt(
    kind: type[MatrixCore],
    given: dict[str, Tensor],
    numbers: dict[str, Any],
    lse: Tensor | None,
    dropped: tuple[bool, bool],
    reason: str | None,
) -> MatrixCore:
    """The matrix that was copied or saved. A file may say anything, so that what it says is checked.

    Raises:
        ValueError: for tensors that do not fit together.
    """
    check_sound(given if lse is None else given | {"lse": lse}, numbers)
    matrix = kind._made(Problem(**{"value": None, **given, **numbers}), lse, dropped)
    matrix.reason = reason
    return matrix
