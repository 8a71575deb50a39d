"""Statistics of rows and keys, several in one pass over the matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NoReturn, overload

import torch
from torch import Tensor

from sightline.backends import Backend, Values, Work, choose, decide
from sightline.backends.contract import READOUTS, Answer, Request
from sightline.backends.pairs import pair_logits
from sightline.common.check import check_device, check_integers, kind
from sightline.common.dispatcher import is_transformed, outside
from sightline.matrix.followed import WITH_KERNELS, followed
from sightline.matrix.followed.reduction import Function
from sightline.matrix.last_axis import along_axis, as_max, exact, is_last
from sightline.matrix.pairs import Pairs
from sightline.matrix.reductions import Reductions
from sightline.positions.align import Align, check_align, offsets

#: Readouts that are single weights or scores.
_OF_PAIRS = ("max", "topk", "max_score")


class Readouts:
    """Several readouts of one pass, as attributes: those that were asked for.

    Made by :meth:`AttentionMatrix.readouts`. Largest weights come with the keys that have them.

    Example:
        >>> import sightline, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
        >>> answers = A.readouts("entropy", topk=3)
        >>> answers, answers.entropy.shape, answers.topk.values.shape
        (Readouts(entropy, topk), torch.Size([1, 2, 10]), torch.Size([1, 2, 10, 3]))
    """

    entropy: Tensor
    received: Tensor
    max: Values
    max_score: Tensor
    topk: Values
    distance: Tensor
    mass: Tensor

    def __init__(self, **answers: Answer) -> None:
        self.__dict__.update(answers)

    def __getattr__(self, name: str) -> NoReturn:
        if name in READOUTS:
            asked = ", ".join(vars(self)) or "none"
            raise AttributeError(f"readouts: {name!r} was not asked for ({asked}); name it in A.readouts().")
        raise AttributeError(f"Readouts has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"Readouts({', '.join(vars(self))})"


class ReadoutMethods(Reductions, Pairs):
    """What is read off the rows and columns."""

    def entropy(self) -> Tensor:
        """-Σ w ln w over keys, in nats, not renormalised under sinks: [B,H,N]. 0 for an empty row."""
        return self.readouts("entropy").entropy

    @overload  # type: ignore[override]
    def max(self) -> Values: ...

    @overload
    def max(self, *args: Any, **kwargs: Any) -> Any: ...

    def max(self, *args: Any, **kwargs: Any) -> Any:
        """Each row's largest weight and its key: (values, indices), [B,H,N]; 0 and -1 for an empty row.

        With ``dim=`` or other arguments as ``torch.max``.
        """
        if not args and not kwargs:
            return self.readouts("max").max
        dim, keepdim = along_axis(args, kwargs)
        if is_last(dim, self.ndim) and exact(self.dtype) and keepdim is not None:
            return as_max(self.readouts("max").max, keepdim, self.dtype)
        return self.dense().max(*args, **kwargs)

    def max_score(self) -> Tensor:
        """Each row's largest masked logit: [B,H,N]; -inf for an empty row."""
        return self.readouts("max_score").max_score

    @overload
    def topk(self, k: int) -> Values: ...

    @overload
    def topk(self, *args: Any, **kwargs: Any) -> Any: ...

    def topk(self, *args: Any, **kwargs: Any) -> Any:
        """Each row's k largest weights, descending, and their keys: (values, indices), [B,H,N,k].

        Where fewer than k keys are visible, value 0 and index -1. With ``dim=``, ``largest=`` or ``sorted=``
        as ``torch.topk``, which then names keys of weight 0.

        Raises:
            ValueError: unless 1 <= k <= M.
        """
        if len(args) + len(kwargs) == 1 and (args or "k" in kwargs):
            return self.readouts("topk", topk=args[0] if args else kwargs["k"]).topk
        return self.dense().topk(*args, **kwargs)

    def distance(self, align: Align = "bottom-right") -> Tensor:
        """Σ w · |i + offset - j|, how far a query looks, in positions: [B,H,N].

        Source: Dosovitskiy et al. 2020, "An image is worth 16x16 words" (attention distance).
        """
        return self.readouts("distance", align=align).distance

    def received(self) -> Tensor:
        """Σ over queries of the weight that each key gets: [B,H,M]."""
        return self.readouts("received").received

    def mass(self, segments: Tensor) -> Tensor:
        """Σ of the weights of each segment of keys: [B,H,N,S].

        Args:
            segments: [M] or [B,M] integers from 0; S is the largest plus 1.

        Raises:
            ValueError: for another shape or a negative segment.
        """
        return self.readouts("mass", segments=segments).mass

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
            >>> answers = A.readouts("received", "entropy", topk=3)
            >>> answers.received.shape, answers.entropy.shape, answers.topk.indices.shape
            (torch.Size([1, 2, 10]), torch.Size([1, 2, 10]), torch.Size([1, 2, 10, 3]))
        """
        self._unchanged()
        align = check_align("distance", align)
        wanted = self._wanted(names, topk, segments)
        requests = [Request(name, topk or 0, segments, align) for name in wanted]
        if self._followed:
            return Readouts(**{one.name: self._squeezed(self._followed_readout(one)) for one in requests})
        passes: dict[str, tuple[Backend, list[Request]]] = {}
        for request in requests:
            backend = choose(self._problem, self._reading(request.name, request.k))
            passes.setdefault(backend.name, (backend, []))[1].append(request)
        answers: dict[str, Answer] = {}
        for backend, together in passes.values():
            answers |= backend.readouts(self._problem, self._known_lse(), together)
        return Readouts(**{name: self._squeezed(answers[name]) for name in wanted})

    def _followed_readout(self, request: Request) -> Answer:
        """A readout that derivatives reach."""
        name, problem, known = request.name, self._problem, self._known_lse()
        if name in _OF_PAIRS:
            return self._largest(request)
        if name == "entropy" and self._entropy_node is not None and not is_transformed():
            return self._entropy_node.join(self._standing().entropy())
        if name == "distance":
            b, _, n, m = self.sizes
            return followed(name, problem, offsets(request.align, b, n, m, self.device), known)
        if name == "mass":
            segments = request.segments
            assert segments is not None
            count = int(segments.max()) + 1 if segments.numel() else 0
            rows = segments if segments.dim() == 2 else segments[None]
            return followed(name, problem, rows.long(), torch.empty(count, device=self.device), known)
        return followed(name, problem, known)

    def _largest(self, request: Request) -> Answer:
        """The largest weights or scores: which they are is known, and derivatives reach those alone."""
        name = "topk" if request.name == "topk" else "max"
        with outside():
            found = getattr(self._standing().readouts(name, topk=request.k or None), name)
        keys = found.indices.clamp(min=0)
        rows = torch.arange(self.sizes[2], device=self.device)
        if request.name == "max_score":
            scores = pair_logits(self._problem, rows, keys).masked_fill(found.indices < 0, -math.inf)
            return scores.masked_fill(found.values.isnan(), math.nan)
        return Values(self._weights_at(rows, keys).masked_fill(found.indices < 0, 0), found.indices)

    def explain(self, *names: str, topk: int | None = None, reduce: Function | None = None) -> dict[str, str]:
        """By name, whether a readout runs natively or in plain PyTorch, and then why.

        Args:
            names: as :meth:`readouts` takes them; default: all.
            topk: k, for "topk".
            reduce: a function that :meth:`reduce` would sum up, told as "reduce".

        Example:
            >>> import sightline, torch
            >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 4))
            >>> A.explain("entropy", "topk", topk=100)["topk"]
            'plain PyTorch: k=100 is above 64'
            >>> A.explain(reduce=lambda w, s, i, j: w**2)["reduce"]
            'native'
        """
        told = {} if reduce is None else {"reduce": self._told_reduction(reduce)}
        asked = names or (() if told else READOUTS)
        decisions = {name: decide(self._problem, self._reading(name, topk or 0)) for name in asked}
        return told | {
            name: self._told(name, backend.title if reason is None else f"{backend.title}: {reason}")
            for name, (backend, _, reason) in decisions.items()
        }

    def _told(self, name: str, how: str) -> str:
        """How a readout is computed, and its gradients where there may be some."""
        if not self.requires_grad:
            return how
        if name in _OF_PAIRS:
            return f"{how}; gradients of the pairs that are read, in plain PyTorch"
        return f"{how}; gradients {'by the same kernels' if name in WITH_KERNELS else 'in plain PyTorch'}"

    def _reading(self, name: str, k: int) -> Work:
        return Work(name, k=k if name == "topk" else 0)

    def _wanted(self, names: Iterable[str], topk: int | None, segments: Tensor | None) -> list[str]:
        asked = list(dict.fromkeys(names))
        if topk is not None and "topk" not in asked:
            asked.append("topk")
        if segments is not None and "mass" not in asked:
            asked.append("mass")
        for name in asked:
            if name not in READOUTS:
                raise ValueError(f"readouts: there is no readout {name!r}; known: {', '.join(READOUTS)}.")
        m = self.sizes[3]
        if "topk" in asked and (isinstance(topk, bool) or not isinstance(topk, int) or not 1 <= topk <= m):
            raise ValueError(f"topk: k must be an integer from 1 to M={m} keys (axis M), got {topk!r}.")
        if "mass" in asked:
            self._check_segments(segments)
        return asked

    def _check_segments(self, segments: Tensor | None) -> None:
        b, _, _, m = self.sizes
        if segments is None:
            raise ValueError("mass: give segments=, an integer tensor [M] or [B,M].")
        kind("mass segments", segments, Tensor, "an integer tensor [M] or [B,M]")
        check_integers("mass segments", segments)
        check_device("mass segments", segments, self.device)
        if segments.dim() not in (1, 2):
            raise ValueError(f"mass: segments must be [M] or [B,M], got shape {list(segments.shape)}.")
        if segments.shape[-1] != m or (segments.dim() == 2 and segments.shape[0] not in (1, b)):
            raise ValueError(f"mass: segments of shape {list(segments.shape)} do not fit B={b}, M={m}.")
        if segments.numel() and int(segments.min()) < 0:
            raise ValueError(f"mass: segments count from 0, got {int(segments.min())}.")

    def _squeezed(self, answer: Answer) -> Answer:
        if isinstance(answer, Values):
            return Values(self._squeeze(answer.values), self._squeeze(answer.indices))
        return self._squeeze(answer)
