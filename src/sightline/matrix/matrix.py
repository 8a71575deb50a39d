"""The attention matrix, which is never stored: any part or readout of it is computed when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from sightline.backends import choose, chunked, cpu, decide, products
from sightline.backends.native_pool import native_pool
from sightline.backends.native_readouts import native_readouts
from sightline.backends.pool import Pool
from sightline.backends.problem import Problem
from sightline.backends.readouts import (
    NAMED,
    Part,
    Product,
    TransposedProduct,
    Values,
    run,
)
from sightline.backends.row_lse import RowLse
from sightline.backends.select import select_batch, select_heads, tensors, with_tensors
from sightline.backends.stages import STAGES, Block, logits, pair_logits
from sightline.biases import Bias
from sightline.call.lower import lower
from sightline.common.check import check_device, check_integers, fits
from sightline.common.slots import matrix_html
from sightline.masks import Mask
from sightline.matrix.indexing import ALL, as_slice, covering, one_per_axis
from sightline.matrix.like_tensor import LikeTensor
from sightline.positions.align import Align

#: Bytes past which the dense matrix is refused.
DENSE_LIMIT = 1 << 30

_INSTEAD = (
    "Ask for a part (A[b, h, rows, cols]), a readout (A.topk(k), A.entropy(), A.received()), "
    "a picture (A.pool(height, width)) or a product (A @ x), or raise limit= (bytes)"
)


class Readouts(SimpleNamespace):
    """Several readouts of one pass, as attributes."""


class AttentionMatrix(LikeTensor):
    """The exact attention weights [B,H,N,M] of a query and a key, computed when they are asked for.

    ``A[b,h,i,j] = exp(masked[b,h,i,j] - lse[b,h,i])``. Holds the query, the key and one number per row;
    memory is linear in N. Detached from autograd unless ``detach=False``.

    A part of the rows or columns comes as a dense tensor; whole batches and heads stay lazy: ``A[0]``,
    ``A[:, 3:5]`` and ``A[0, 3]`` are AttentionMatrix objects again. Where a tensor is expected, a small
    matrix turns into one.

    Args:
        query: [B,H,N,D].
        key: [B,G,M,D].
        value: [B,G,M,E], kept for those who weigh values; not needed for the weights.
        mask, bias, scale, softcap, sinks: as in :func:`sightline.attention`.
        detach: whether to leave autograd. With ``False`` gradients flow from parts and readouts to the
            query, the key and the biases.

    Raises:
        ValueError, TypeError: as :func:`sightline.attention`; RuntimeError on reading, if the query or key
        was changed in place since.

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 4, 6, 8)
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal())
        >>> A.shape, A[0, 1, 2:4, :3].shape, A.entropy().shape
        (torch.Size([1, 4, 6, 6]), torch.Size([2, 3]), torch.Size([1, 4, 6]))
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        detach: bool = True,
    ) -> None:
        problem = lower(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
        self._init(problem, None, detach)

    @classmethod
    def of_problem(cls, problem: Problem, lse: Tensor | None = None, detach: bool = True) -> AttentionMatrix:
        """The matrix of a lowered problem; dropout is left out."""
        matrix = cls.__new__(cls)
        matrix._init(problem, lse, detach)
        return matrix

    def _init(self, problem: Problem, lse: Tensor | None, detach: bool) -> None:
        problem = replace(problem, dropout=0.0, seed=None)
        if detach:
            problem = with_tensors(problem, {name: t.detach() for name, t in tensors(problem).items()})
            lse = None if lse is None else lse.detach()
        self._problem = problem
        self._lse = lse
        self._rows: RowLse | None = None  # as much of the lse as is known where the whole is not
        self._dropped = (False, False)
        self._versions = _versions(problem)
        #: Why the weights may not be those of the model that the matrix was caught in; ``None`` if they are.
        self.reason: str | None = None

    # --- what it is ---------------------------------------------------------------------------------

    @property
    def problem(self) -> Problem:
        """The lowered problem: query, key, ranges and so on."""
        return self._problem

    @property
    def verified(self) -> bool:
        """False for a matrix of a traced model that was found to differ from it; ``reason`` says why."""
        return self.reason is None

    @property
    def shape(self) -> torch.Size:
        """[B,H,N,M], without the axes that an integer index took away."""
        full = self._problem.shape
        return torch.Size(
            [s for s, gone in zip(full, (*self._dropped, False, False), strict=True) if not gone]
        )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of dense parts: the query's. Readouts are float32 or better."""
        return self._problem.query.dtype

    @property
    def device(self) -> torch.device:
        """Where the query lies."""
        return self._problem.query.device

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow from the weights."""
        return any(t.requires_grad for t in tensors(self._problem).values())

    def __repr__(self) -> str:
        return f"AttentionMatrix(shape={list(self.shape)}, dtype={self.dtype}, device={self.device})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the explorer of a small matrix, pictures of some heads of a large one."""
        return matrix_html(self)

    def four_axes(self) -> AttentionMatrix:
        """The matrix as [B,H,N,M], with the axes that an integer index took away; still lazy.

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
            >>> A[0, 1].shape, A[0, 1].four_axes().shape
            (torch.Size([10, 10]), torch.Size([1, 1, 10, 10]))
        """
        return self._derive(self._problem, self._lse, (False, False))

    def to(self, *args: Any, **kwargs: Any) -> AttentionMatrix:
        """The matrix on another device or in another dtype, still lazy; arguments as ``Tensor.to``."""
        moved = {n: _moved(t, *args, **kwargs) for n, t in tensors(self._problem).items()}
        lse = None if self._lse is None else self._lse.to(moved["query"].device)
        return self._derive(with_tensors(self._problem, moved), lse)

    def cpu(self) -> AttentionMatrix:
        """The matrix on the CPU, still lazy."""
        return self.to("cpu")

    def detach(self) -> AttentionMatrix:
        """The matrix without autograd, still lazy."""
        found = {name: t.detach() for name, t in tensors(self._problem).items()}
        lse = None if self._lse is None else self._lse.detach()
        return self._derive(with_tensors(self._problem, found), lse)

    def clone(self) -> AttentionMatrix:
        """The matrix with tensors of its own."""
        found = {name: t.clone() for name, t in tensors(self._problem).items()}
        return self._derive(with_tensors(self._problem, found), self._lse)

    def _derive(
        self, problem: Problem, lse: Tensor | None, drop: tuple[bool, bool] | None = None
    ) -> AttentionMatrix:
        self._unchanged()
        matrix = AttentionMatrix.of_problem(problem, lse, detach=False)
        matrix._dropped = self._dropped if drop is None else drop
        matrix.reason = self.reason
        return matrix

    def _unchanged(self) -> None:
        """Refuses to compute from tensors that were written to since the matrix was made."""
        for name, version in _versions(self._problem).items():
            if version != self._versions[name]:
                raise RuntimeError(
                    f"{name}: changed in place after this matrix was made (version {self._versions[name]}, "
                    f"now {version}). Make the matrix from {name}.clone()."
                )

    # --- weights ------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        """Exact weights of a part; whole rows and columns stay lazy.

        Takes integers (negative too), slices and ``...``.

        Raises:
            IndexError: for an integer out of range or too many indices; TypeError for another kind of index.
        """
        batch, heads, rows, cols = one_per_axis(index, self.shape, self._dropped)
        b, h, n, m = self._problem.shape
        chosen = self._select(batch, heads)
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        if not isinstance(rows, int) and not isinstance(cols, int):
            whole = (range(n)[row_slice], range(m)[col_slice]) == (range(n), range(m))
            if whole:
                return chosen
        dense = chosen._part(row_slice, col_slice, None)
        if isinstance(rows, int):
            dense = dense[..., 0, :]
        return dense[..., 0] if isinstance(cols, int) else dense

    def _select(self, batch: int | slice, heads: int | slice) -> AttentionMatrix:
        """Some batch entries and heads, lazily."""
        drop = (self._dropped[0] or isinstance(batch, int), self._dropped[1] or isinstance(heads, int))
        if batch == ALL and heads == ALL:
            batch, heads = slice(None), slice(None)
            problem = self._problem
        else:
            b, h, _, _ = self._problem.shape
            batch, heads = as_slice(batch, b, "B"), as_slice(heads, h, "H")
            problem = select_heads(select_batch(self._problem, batch), heads)
        chosen = self._derive(problem, None if self._lse is None else self._lse[batch, heads], drop)
        if self._lse is None and not self.requires_grad:
            chosen._rows = self._known_rows().select(batch, heads)
        return chosen

    def dense(self, limit: int | None = None) -> Tensor:
        """All weights [B,H,N,M] as a tensor of ``dtype``.

        Args:
            limit: bytes that it may take; 1 GiB by default.

        Raises:
            MemoryError: past the limit, saying what to call instead.
        """
        return self._part(ALL, ALL, limit)

    def _part(self, rows: slice, cols: slice, limit: int | None) -> Tensor:
        self._unchanged()
        b, h, n, m = self._problem.shape
        shape = [b, h, len(range(n)[rows]), len(range(m)[cols])]
        size = math.prod(shape) * self._problem.query.element_size()
        allowed = DENSE_LIMIT if limit is None else limit
        if size > allowed:
            raise MemoryError(
                f"the dense weights of shape {shape} take {_bytes(size)}, over the limit of "
                f"{_bytes(allowed)}. {_INSTEAD}."
            )
        lse = self._lse_of(rows)
        readout = Part(self._problem, rows, cols)
        (weights,) = run(self._problem, lse, [readout], rows, covering(cols, m))
        return self._squeeze(weights.to(self.dtype))

    def lse_of(self, rows: slice) -> Tensor:
        """The lse of some rows, computed for no others and then kept: [B,H,n]; see :attr:`lse`."""
        self._unchanged()
        row_slice = as_slice(rows, self._problem.shape[2], "N")
        if self._lse is not None or self.requires_grad:
            return self._squeeze(self._full_lse()[:, :, row_slice])
        known = self._known_rows()
        known.fill(self._problem, row_slice, self._native())
        return self._squeeze(known.values[:, :, row_slice])

    def unknown_lse(self, rows: slice) -> int:
        """How many rows' lse :meth:`lse_of` would have to compute, over all batch entries and heads."""
        return 0 if self._lse is not None else self._known_rows().missing(rows)

    def _lse_of(self, rows: slice) -> Tensor:
        """An lse that is right for ``rows``; only their own rows are computed where none is known yet."""
        n = self._problem.shape[2]
        if self._lse is not None or 4 * len(range(n)[rows]) >= n:
            return self._full_lse()
        if self.requires_grad:
            out = chunked.empty_lse(self._problem)
            out[:, :, rows] = chunked.lse(self._problem, rows)
            return out
        self._known_rows().fill(self._problem, rows, self._native())
        return self._known_rows().values

    def _full_lse(self) -> Tensor:
        if self._lse is None and self.requires_grad:
            self._lse = chunked.lse(self._problem)
        elif self._lse is None:
            self._known_rows().fill(self._problem, ALL, self._native())
            self._lse = self._known_rows().values
        return self._lse

    def _known_rows(self) -> RowLse:
        if self._rows is None:
            self._rows = RowLse.of(self._problem)
        return self._rows

    def _native(self) -> bool:
        return not self.requires_grad and choose(self._problem) == "cpu"

    def scores(self, rows: slice | int = ALL, cols: slice | int = ALL, stage: str = "scaled") -> Tensor:
        """Exact logits of a part, float32 or better: [B,H,n,m].

        Args:
            rows, cols: slices or integers; an integer keeps its axis, with size 1.
            stage: "scaled" (with the scale), "capped", "biased" or "masked" (-inf exactly where hidden). A
                missing softcap or bias passes the stage before through.

        Raises:
            ValueError: for another stage. MemoryError: past 1 GiB.
        """
        if stage not in STAGES:
            raise ValueError(f"stage: there is no stage {stage!r}; known: {', '.join(STAGES)}.")
        self._unchanged()
        b, h, n, m = self._problem.shape
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        cover = covering(col_slice, m)
        size = 4 * b * h * len(range(n)[row_slice]) * len(range(m)[cover])
        if size > DENSE_LIMIT:
            raise MemoryError(
                f"scores of this part take {_bytes(size)}, over {_bytes(DENSE_LIMIT)}. {_INSTEAD}."
            )
        found = logits(self._problem, Block(ALL, row_slice, cover), stage)
        first = col_slice.indices(m)[0] - cover.start
        return self._squeeze(found[..., first :: col_slice.step or 1])

    # --- readouts -----------------------------------------------------------------------------------

    @property
    def lse(self) -> Tensor:
        """ln Σ exp(masked) of each row, sinks included, float32 or better: [B,H,N]; -inf for an empty row."""
        self._unchanged()
        return self._squeeze(self._full_lse())

    def entropy(self) -> Tensor:
        """-Σ w ln w over keys, in nats, not renormalised under sinks: [B,H,N]. 0 for an empty row."""
        return self._one("entropy")  # type: ignore[no-any-return]

    def max(self) -> Values:
        """Each row's largest weight and its key: (values, indices), [B,H,N]; 0 and -1 for an empty row."""
        return self._one("max")  # type: ignore[no-any-return]

    def max_score(self) -> Tensor:
        """Each row's largest masked logit: [B,H,N]; -inf for an empty row."""
        return self._one("max_score")  # type: ignore[no-any-return]

    def topk(self, k: int) -> Values:
        """Each row's k largest weights, descending, and their keys: (values, indices), [B,H,N,k].

        Where fewer than k keys are visible, value 0 and index -1.

        Raises:
            ValueError: unless 1 <= k <= M.
        """
        return self._one("topk", topk=k)  # type: ignore[no-any-return]

    def distance(self, align: Align = "bottom-right") -> Tensor:
        """Σ w · |i + offset - j|, how far a query looks, in positions: [B,H,N].

        Source: Dosovitskiy et al. 2020, "An image is worth 16x16 words" (attention distance).
        """
        return self._one("distance", align=align)  # type: ignore[no-any-return]

    def received(self) -> Tensor:
        """Σ over queries of the weight that each key gets: [B,H,M]."""
        return self._one("received")  # type: ignore[no-any-return]

    def mass(self, segments: Tensor) -> Tensor:
        """Σ of the weights of each segment of keys: [B,H,N,S].

        Args:
            segments: [M] or [B,M] integers from 0; S is the largest plus 1.

        Raises:
            ValueError: for another shape or a negative segment.
        """
        return self._one("mass", segments=segments)  # type: ignore[no-any-return]

    def _one(self, name: str, **options: Any) -> Any:
        return getattr(self.readouts(name, **options), name)

    def readouts(
        self,
        *names: str,
        topk: int | None = None,
        segments: Tensor | None = None,
        align: Align = "bottom-right",
    ) -> Readouts:
        """Several readouts in one pass over the matrix, as attributes of one object.

        Args:
            names: of "entropy", "received", "max", "max_score", "topk", "distance", "mass".
            topk: k; asks for "topk".
            segments: for "mass"; asks for it.
            align: for "distance".

        Raises:
            ValueError: for an unknown name or a missing option.

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
            >>> found = A.readouts("received", "entropy", topk=3)
            >>> found.received.shape, found.entropy.shape, found.topk.indices.shape
            (torch.Size([1, 2, 10]), torch.Size([1, 2, 10]), torch.Size([1, 2, 10, 3]))
        """
        self._unchanged()
        wanted = self._wanted(names, topk, segments)
        results: dict[str, Any] = {}
        native = [name for name, why in self._paths(wanted, topk).items() if why is None]
        options: dict[str, dict[str, Any]] = {
            "topk": {"k": topk},
            "mass": {"segments": segments},
            "distance": {"align": align},
        }
        if native:
            chosen = {name: options.get(name, {}) for name in native}
            results |= native_readouts(self._problem, self._full_lse(), chosen)
        rest = [name for name in wanted if name not in results]
        passes = [NAMED[name](self._problem, **options.get(name, {})) for name in rest]
        results |= dict(
            zip(rest, run(self._problem, self._full_lse(), passes) if passes else [], strict=True)
        )
        return Readouts(**{name: self._squeezed(results[name]) for name in wanted})

    def explain(self, *names: str, topk: int | None = None) -> dict[str, str]:
        """By name, whether a readout runs natively or in plain PyTorch, and then why.

        Args:
            names: as :meth:`readouts` takes them; default: all.
            topk: k, for "topk".

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
            >>> A.explain("entropy", "topk", topk=100)["topk"]
            'plain PyTorch: k=100 is above 64'
        """
        paths = self._paths(names or NAMED, topk)
        return {name: "native" if why is None else f"plain PyTorch: {why}" for name, why in paths.items()}

    def _paths(self, names: Iterable[str], topk: int | None) -> dict[str, str | None]:
        """For each readout why it does not run natively, or ``None`` where it does."""
        name, reason = decide(self._problem)
        if name == "cpu" and self.requires_grad:
            reason = "gradients are wanted; leave detach=True where they are not"
        found: dict[str, str | None] = {}
        for readout in names:
            found[readout] = reason
            if reason is None and readout == "topk" and (topk or 0) > cpu.max_topk():
                found[readout] = f"k={topk} is above {cpu.max_topk()}"
        return found

    def _wanted(self, names: Iterable[str], topk: int | None, segments: Tensor | None) -> list[str]:
        asked = list(dict.fromkeys(names))
        if topk is not None and "topk" not in asked:
            asked.append("topk")
        if segments is not None and "mass" not in asked:
            asked.append("mass")
        for name in asked:
            if name not in NAMED:
                raise ValueError(f"readouts: there is no readout {name!r}; known: {', '.join(NAMED)}.")
        m = self._problem.shape[3]
        if "topk" in asked and (isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= m):
            raise ValueError(f"topk: k must be an integer from 1 to M={m} keys (axis M), got {topk!r}.")
        if "mass" in asked:
            self._check_segments(segments)
        return asked

    def _check_segments(self, segments: Tensor | None) -> None:
        b, _, _, m = self._problem.shape
        if not isinstance(segments, Tensor):
            raise ValueError("mass: give segments=, an integer tensor [M] or [B,M].")
        check_integers("mass segments", segments)
        check_device("mass segments", segments, self.device)
        if segments.dim() not in (1, 2):
            raise ValueError(f"mass: segments must be [M] or [B,M], got shape {list(segments.shape)}.")
        if segments.shape[-1] != m or (segments.dim() == 2 and segments.shape[0] not in (1, b)):
            raise ValueError(f"mass: segments of shape {list(segments.shape)} do not fit B={b}, M={m}.")
        if segments.numel() and int(segments.min()) < 0:
            raise ValueError(f"mass: segments count from 0, got {int(segments.min())}.")

    def diagonal(self, offset: int = 0) -> Tensor:
        """A[i, i + offset], with the shape of ``torch.diagonal``: [B,H,L].

        Raises:
            ValueError: if the diagonal lies outside the matrix.
        """
        b, h, n, m = self._problem.shape
        first = max(0, -offset)
        length = min(n - first, m - first - offset)
        if length < 0 or (length == 0 and n and m):
            raise ValueError(f"diagonal: offset {offset} lies outside a matrix of N={n} by M={m}.")
        rows = torch.arange(first, first + length, device=self.device)
        return self._squeeze(self._pairs(rows, (rows + offset).expand(b, h, length)))

    def gather(self, indices: Tensor) -> Tensor:
        """A[i, indices[i]], one weight per query: [B,H,N]. An index of -1 reads 0, as topk's does.

        Args:
            indices: [N] or [B,H,N] (or what broadcasts to it) integers from -1 to M - 1.

        Raises:
            ValueError: for an index out of range or another shape.
        """
        b, h, n, m = self._problem.shape
        check_integers("gather indices", indices)
        check_device("gather indices", indices, self.device)
        wanted = fits("gather indices", indices, ("B", "H", "N"), (b, h, n)).expand(b, h, n).long()
        if wanted.numel() and not (int(wanted.min()) >= -1 and int(wanted.max()) < m):
            raise ValueError(
                f"gather: indices from {int(wanted.min())} to {int(wanted.max())} do not fit M={m} keys "
                "(axis M). -1 stands for no key."
            )
        found = self._pairs(torch.arange(n, device=self.device), wanted.clamp(min=0))
        return self._squeeze(found.masked_fill(wanted < 0, 0))

    def _pairs(self, rows: Tensor, keys: Tensor) -> Tensor:
        """One weight per query, [B,H,n]."""
        self._unchanged()
        lse = self._full_lse()[:, :, rows]
        masked = pair_logits(self._problem, rows, keys)
        return torch.exp(masked - lse.masked_fill(lse == -math.inf, 0))

    def pool(
        self,
        height: int,
        width: int,
        rows: slice | None = None,
        cols: slice | None = None,
        reduce: str = "mean",
    ) -> Tensor:
        """An exact picture of any region: [B,H,height,width], float32 or better.

        Cell r covers rows r·n//height to (r+1)·n//height, and columns alike. Mean and max run over visible
        cells; a wholly masked cell is NaN (0 for a sum). A mean hides single spikes; a max shows them.

        Args:
            height, width: cells; more than rows or columns leaves some cells empty (NaN, or 0 for a sum).
            rows, cols: the region, slices of step 1; all by default.
            reduce: "mean", "max" or "sum".

        Raises:
            ValueError: for sizes below 1, another reduction, or a step.
        """
        _, _, n, m = self._problem.shape
        if height < 1 or width < 1:
            raise ValueError(f"pool: height and width must be 1 or more, got {height} and {width}.")
        if reduce not in ("mean", "max", "sum"):
            raise ValueError(f"pool: reduce must be 'mean', 'max' or 'sum', got {reduce!r}.")
        row_slice, col_slice = as_slice(rows or ALL, n, "N"), as_slice(cols or ALL, m, "M")
        if row_slice.step != 1 or col_slice.step != 1:
            raise ValueError("pool: rows and cols are slices of step 1.")
        self._unchanged()
        lse, cut = self._lse_of(row_slice), (height, width, row_slice, col_slice, reduce)
        if self._native():
            return self._squeeze(native_pool(self._problem, lse, *cut))
        (found,) = run(self._problem, lse, [Pool(self._problem, *cut)], row_slice, col_slice)
        return self._squeeze(found)

    # --- the matrix as a linear operator ------------------------------------------------------------

    @property
    def T(self) -> TransposedMatrix:
        """The transposed matrix, lazy: rows are keys."""
        return TransposedMatrix(self)

    mT = T

    def __matmul__(self, x: Tensor) -> Tensor:
        """A @ x: [B,H,N,F] for x [M,F], [H,M,F] or [B,H,M,F]; [B,H,N] for x [M]."""
        self._unchanged()
        columns = self._columns(x, self._problem.shape[3], "M")
        if self._native_for(x):
            return self._as_other_side(products.product(self._problem, columns), x)
        (found,) = run(self._problem, self._full_lse(), [Product(self._problem, columns)])
        return self._as_other_side(found, x)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        """x @ A: [B,H,F,M] for x [F,N], [H,F,N] or [B,H,F,N]; [B,H,M] for x [N]."""
        if not isinstance(x, Tensor) or x.dim() < 2:
            return self._transposed_product(x)
        return self._transposed_product(x.transpose(-1, -2)).transpose(-1, -2)

    def _transposed_product(self, x: Tensor) -> Tensor:
        """Aᵀ @ x: [B,H,M,F] for x [N,F], [H,N,F] or [B,H,N,F]; [B,H,M] for x [N]."""
        self._unchanged()
        columns = self._columns(x, self._problem.shape[2], "N")
        if self._native_for(x):
            found = products.transposed_product(self._problem, self._full_lse(), columns)
            return self._as_other_side(found, x)
        (found,) = run(self._problem, self._full_lse(), [TransposedProduct(self._problem, columns)])
        return self._as_other_side(found, x)

    def _native_for(self, x: Tensor) -> bool:
        return self._native() and not x.requires_grad

    def _columns(self, x: Tensor, length: int, axis: str) -> Tensor:
        """The other side of a product as [B|1, H|1, length, F], or a clear error."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError("@: the other side must be a floating tensor.")
        check_device("@", x, self.device)
        columns = x[:, None] if x.dim() == 1 else x
        b, h, _, _ = self._problem.shape
        if self._dropped[1] and columns.dim() > 2:
            columns = columns.unsqueeze(-3)
        if columns.shape[-2] != length:
            raise ValueError(
                f"@: the other side has {columns.shape[-2]} entries along the axis {axis}={length} "
                "of the matrix. Transpose the one or the other."
            )
        return fits("@", columns, ("B", "H", axis, "F"), (b, h, length, columns.shape[-1]))

    def _as_other_side(self, found: Tensor, x: Tensor) -> Tensor:
        """A product in the dtype of x, a vector where x is one."""
        found = self._squeeze(found.to(x.dtype))
        return found[..., 0] if x.dim() == 1 else found

    def _squeeze(self, tensor: Tensor) -> Tensor:
        """Without the batch and head axes that an integer index took away."""
        if self._dropped[1]:
            tensor = tensor.squeeze(1)
        return tensor.squeeze(0) if self._dropped[0] else tensor

    def _squeezed(self, result: Any) -> Any:
        return Values(*map(self._squeeze, result)) if isinstance(result, tuple) else self._squeeze(result)


class TransposedMatrix(LikeTensor):
    """Aᵀ, lazy: ``A.T @ x`` sums over queries what ``A @ x`` sums over keys."""

    def __init__(self, matrix: AttentionMatrix) -> None:
        self._matrix = matrix

    @property
    def T(self) -> AttentionMatrix:
        """The matrix itself."""
        return self._matrix

    mT = T

    @property
    def shape(self) -> torch.Size:
        """[B,H,M,N]."""
        *rest, n, m = self._matrix.shape
        return torch.Size([*rest, m, n])

    @property
    def dtype(self) -> torch.dtype:
        """As of the matrix itself."""
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        """As of the matrix itself."""
        return self._matrix.device

    def __matmul__(self, x: Tensor) -> Tensor:
        """Aᵀ @ x: [B,H,M,F] for x [N,F], [H,N,F] or [B,H,N,F]; [B,H,M] for x [N]."""
        return self._matrix._transposed_product(x)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        """x @ Aᵀ: [B,H,F,N]."""
        if x.dim() == 1:
            return self._matrix @ x
        return (self._matrix @ x.transpose(-1, -2)).transpose(-1, -2)

    def dense(self, limit: int | None = None) -> Tensor:
        """All weights, [B,H,M,N]; see :meth:`AttentionMatrix.dense`."""
        return self._matrix.dense(limit).transpose(-1, -2)

    def __repr__(self) -> str:
        return f"{self._matrix!r}.T"


def _versions(problem: Problem) -> dict[str, int]:
    # Tensors made under inference_mode keep no version.
    return {n: t._version for n, t in tensors(problem).items() if not t.is_inference()}


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to``, but integers and bools keep their dtype."""
    if tensor.is_floating_point():
        return tensor.to(*args, **kwargs)
    return tensor.to(torch.empty(0, dtype=tensor.dtype, device=tensor.device).to(*args, **kwargs).device)


def _bytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**29 else f"{size / 2**20:,.1f} MiB"


__all__ = ["DENSE_LIMIT", "AttentionMatrix", "Readouts", "TransposedMatrix"]
