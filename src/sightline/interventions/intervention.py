"""The block in which a model looks otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.backends import Problem, tensors, with_tensors
from sightline.call import changed
from sightline.common import dispatcher
from sightline.common.check import choice, shown
from sightline.interventions import gradients
from sightline.interventions.changer import TRANSFORMED, Changer
from sightline.interventions.changes import (
    HOWS,
    STAGES,
    Ablate,
    Block,
    Change,
    Patch,
    Replace,
    Scale,
    SetWeight,
    as_tensor,
    factor,
    share,
)
from sightline.interventions.looking import Looking
from sightline.interventions.selection import Indices
from sightline.matrix import AttentionMatrix
from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.choice import LayerChoice, Layers
from sightline.tracing.lowering import problem_of
from sightline.tracing.storage import address
from sightline.tracing.verify import doubt
from sightline.tracing.watching import Watching, check_model


class _Changed(NamedTuple):
    """A call that was changed, for an intervention around this one that changes it further."""

    result: Tensor
    caught: CaughtCall
    looking: Looking
    pairs: list[tuple[Tensor, Tensor]]


class _Latest(threading.local):
    """Of each thread its own."""

    def __init__(self) -> None:
        self.call: _Changed | None = None


_latest = _Latest()


class Intervention(Watching):
    """See :func:`sightline.intervene`."""

    def __init__(self, model: nn.Module | Callable[..., Any] | None, strict: bool = True) -> None:
        """``strict``: what no call met raises when the block ends; a text may end before a change begins."""
        check_model(model)
        super().__init__(model)
        self._changes: list[Change] = []
        self._order: dict[tuple[str, str], int] = {}
        self._unread: list[tuple[str, str]] = []
        self._position = (0, 0)
        self._used = False
        self._strict = strict

    # --- the block --------------------------------------------------------------------------------

    def __enter__(self) -> Intervention:
        if self._used:
            raise RuntimeError("intervene: was used before; make a new one for each block.")
        self._used = True
        self._begin(Changer(self._weights(), self._stack, self._change, self._on_failure))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: object) -> None:
        self._end()
        _latest.call = None
        changed.forget()
        if kind is None and self._strict:
            self._say_what_is_missing()

    def _say_what_is_missing(self) -> None:
        for change in self._changes:
            for name, reason in self._unread:
                if change.layers.takes(name, "self"):
                    raise ValueError(f"{change!r}: {name or 'this call'} cannot be changed: {reason}.")
            missing = change.missing()
            if missing is not None:
                raise ValueError(f"{change!r}: {missing}")

    # --- the changes ------------------------------------------------------------------------------

    def block(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        queries: Indices = None,
        keys: Indices = None,
        *,
        batch: Indices = None,
    ) -> None:
        """These queries do not see these keys: their weights are exactly 0, and rows sum to 1 again.

        A query that is left without any key gets a context of 0. Arguments: see :func:`sightline.intervene`.
        """
        self.add(Block("block", self._layers(layer), head, batch, queries=queries, keys=keys))

    def scale(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        keys: Indices = None,
        by: float = 1.0,
        *,
        queries: Indices = None,
        batch: Indices = None,
    ) -> None:
        """These weights times ``by``, a number of 0 or more, and then each row sums to 1 again."""
        by = factor(by)
        if by == 0:
            self.add(Block("scale", self._layers(layer), head, batch, queries=queries, keys=keys))
            return
        change = Scale("scale", self._layers(layer), head, batch, queries=queries, keys=keys)
        change.by = by
        self.add(change)

    def set(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        queries: Indices = None,
        keys: Indices = None,
        to: float = 1.0,
        *,
        batch: Indices = None,
    ) -> None:
        """These keys together get ``to``, from 0 to 1, of the weight of each of these queries.

        The keys keep their proportions among each other, and so do all others, a sink among them, that share
        the rest: rows sum to 1 as before. 0 hides the keys, 1 leaves the others less than the dtype tells.
        Rows that see none of the keys, or nothing else, stay as they are.
        """
        change = SetWeight("set", self._layers(layer), head, batch, queries=queries, keys=keys)
        change.to = share(to)
        self.add(change)

    def ablate(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        how: str | Tensor | float = "zero",
        *,
        batch: Indices = None,
    ) -> None:
        """These heads say nothing: their context is replaced.

        ``how`` is "zero"; "mean", over the queries of the call; "uniform", what equal weights over the keys
        that a query may see would give; or a tensor that broadcasts to [batch, heads, N, E].
        """
        change = Ablate("ablate", self._layers(layer), head, batch)
        if isinstance(how, str):
            choice("how", how, HOWS)
            change.how = how
        else:
            change.how = as_tensor("how", how)
        self.add(change)

    def replace(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        *,
        weights: AttentionMatrix | Tensor,
    ) -> None:
        """These heads look as in another run: the given weights over their own values.

        ``weights`` is an AttentionMatrix, which stays lazy, or a tensor, [N,M] to [B,H,N,M]; of as many heads
        as are replaced, of all heads of the layer, or of one. Masks are those of the given weights.
        """
        change = Replace("replace", self._layers(layer), head, None)
        if not isinstance(weights, AttentionMatrix):
            weights = as_tensor("weights", weights)
            if weights.dim() < 2 or bool((weights < 0).any()):
                raise ValueError(
                    f"weights: must be [N,M] to [B,H,N,M] and not negative, got {shown(weights)}."
                )
        change.weights = weights
        self.add(change)

    def patch(
        self,
        layer: Layers | None = None,
        head: Indices = None,
        *,
        stage: str = "value",
        positions: Indices = None,
        value: Tensor | float,
        batch: Indices = None,
    ) -> None:
        """Puts ``value`` in place of queries, keys, values or contexts at some positions.

        ``stage`` is "query", "key", "value" or "context"; positions of keys and values count keys, those of
        queries and contexts count queries. ``value`` broadcasts to [batch, heads, positions, width].
        """
        choice("stage", stage, STAGES)
        axis = "keys" if stage in ("key", "value") else "queries"
        change = Patch("patch", self._layers(layer), head, batch, **{axis: positions})
        change.stage, change.value = stage, as_tensor("value", value)
        self.add(change)

    def _layers(self, layer: Layers | None) -> LayerChoice:
        try:
            return LayerChoice(layer, self._stack.names.values(), self._order)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("layers:", "layer:", 1)) from None

    def add(self, change: Change) -> None:
        """One more change, behind those that are there."""
        self._changes.append(change)

    # --- calls ------------------------------------------------------------------------------------

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run."""
        if isinstance(self._recorder, Changer):
            self._recorder.enters()
            if self._changes and id(module) in self._stack.names and dispatcher.is_transformed():
                raise NotImplementedError(TRANSFORMED)
        super().entered(module, args)

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run."""
        gradients.lay()
        super().left(module, output)

    def _on_unseen(self, module: nn.Module) -> None:
        self._seen += 1
        name = self._stack.names.get(id(module), "")
        self._order.setdefault((name, "self"), len(self._order))
        self._unread.append((name, f"no attention was recognised in this {type(module).__name__}"))

    def _on_failure(self, operation: str, error: Exception) -> None:
        if "attention" in operation or "softmax" in operation:
            self._seen += 1
            self._unread.append((self._stack.name, f"{operation} could not be read: {error}"))

    def _change(self, caught: CaughtCall) -> bool:
        """Changes a call where somebody asked for it; whether it did."""
        if self._stack.foreign:
            return False
        recorder = self._recorder
        assert isinstance(recorder, Changer)
        with recorder.aside():
            below = _latest.call
            below = below if below is not None and below.result is caught.result else None
            name, kind = self._identified(caught)
            self._order.setdefault((name, kind), len(self._order))
            wanted = [change for change in self._changes if change.layers.takes(name, kind)]
            shapes = self._where(caught, kind)
            if not wanted:
                return False
            if below is None:
                problem = self._explained(caught, name)
                looking, pairs = Looking.of(problem), recorder.aliases.pairs()
            else:
                caught, looking, pairs = below.caught, below.looking, below.pairs
            done = [change.apply(looking, shapes) for change in wanted]
            if not any(done):
                return False
            known = self._known(caught, looking) if below is None else None
            if known is None:
                context, lse = looking.context()
            else:
                context, lse = looking.context_beside(known), None
        self._put(caught, context)
        recorder.lse = lse
        assert caught.result is not None
        if context.requires_grad:
            if caught.output is None:
                raise NotImplementedError(
                    f"{name}: gradients of changed attention on nested tensors are not there. Use "
                    "torch.no_grad(), or padded tensors."
                )
            gradients.plan(
                gradients.Detour(
                    caught.result,
                    caught.output[1],
                    context,
                    pairs,
                    torch._C._current_graph_task_id(),
                )
            )
        _latest.call = _Changed(caught.result, caught, looking, pairs)
        changed.note(caught.result, _Once(caught, looking, context.detach(), lse))
        return True

    def _known(self, caught: CaughtCall, looking: Looking) -> Tensor | None:
        """The context before the change [B,H,N,E], where heads that nobody touched may keep it."""
        context = caught.context
        if context is None or not caught.computed or caught.dropout or looking.touched is None:
            return None
        given = tensors(looking.parts[0].problem)
        if torch.is_grad_enabled() and any(one.requires_grad for one in given.values()):
            return None
        same = context.shape == (*looking.shape[:3], given["value"].shape[3])
        return context if same else None

    def _where(self, caught: CaughtCall, kind: str) -> int:
        """Where the first query stands: behind what a cache holds."""
        queries, keys = caught.query.shape[2], caught.key.shape[2]
        start, count = self._position
        if kind == "cross":
            return start if count == queries else 0
        start = 0
        if queries < keys and not caught.causal:
            assert self._recorder is not None
            problem = problem_of(caught, self._recorder.masks)
            start = max(0, _last_seen(problem) - queries)
        self._position = (start, queries)
        return start

    def _explained(self, caught: CaughtCall, name: str) -> Problem:
        """The problem of a call, if it is what the model computed.

        Raises:
            ValueError: if it is not.
        """
        assert self._recorder is not None
        reason = None if caught.doubt == DROPOUT else caught.doubt
        if caught.doubt == DROPOUT and caught.dropout is None:
            reason = "weights are dropped at random, nobody knows how many"
        problem = None
        if reason is None:
            try:
                problem = problem_of(caught, self._recorder.masks)
            except MemoryError as error:
                reason = str(error)
        if problem is not None and caught.computed and not caught.dropout:
            with torch.no_grad():
                reason = doubt(problem, caught.context, caught.compare, caught.eps, caught.thorough)
        if reason is not None or problem is None:
            raise ValueError(f"{name or 'this call'}: cannot be changed: {reason}.")
        return replace(problem, dropout=caught.dropout or 0.0)

    def _put(self, caught: CaughtCall, context: Tensor) -> None:
        """Puts the context where the model's own lies."""
        context = context.detach()
        if caught.put is not None:
            caught.put(context)
            return
        assert caught.output is not None
        result, view = caught.output
        place = view(result)
        if address(place) == address(result):
            place.copy_(context)
            return
        numbers = torch.arange(result.numel(), device=result.device).view(result.shape)
        flat = torch.empty(result.numel(), dtype=result.dtype, device=result.device)
        flat[view(numbers).flatten()] = context.to(result.dtype).flatten()
        result.copy_(flat.view(result.shape))


class _Once:
    """What a call became, made when somebody asks for it first."""

    def __init__(self, caught: CaughtCall, looking: Looking, context: Tensor, lse: Tensor | None) -> None:
        self._given = (caught, looking, context, lse)
        self._made: CaughtCall | None = None

    def __call__(self) -> CaughtCall:
        if self._made is None:
            caught, looking, context, lse = self._given
            reason, problem = looking.unexplained, looking.parts[0].problem
            try:
                with torch.no_grad():
                    problem = looking.problem()
            except MemoryError as error:
                reason = str(error)
            bare = {name: tensor.detach() for name, tensor in tensors(problem).items()}
            self._made = replace(
                caught,
                problem=with_tensors(problem, bare, dropout=0.0, seed=None),
                context=context if caught.compare is None else None,
                lse=lse if len(looking.parts) == 1 and not looking.averaged else None,
                doubt=reason or caught.doubt,
                dense=None,
                lead=(),
            )
        return self._made


def _last_seen(problem: Problem) -> int:
    """How many keys there are up to the last that the last query sees."""
    keys = problem.shape[3]
    if problem.ranges is not None and problem.ranges.numel():
        last = problem.ranges[:, :, -1]
        return int(last[..., 1].masked_fill(last[..., 0] >= last[..., 1], 0).max())
    if problem.visible is not None and problem.visible.numel():
        seen = problem.visible[:, :, -1].flatten(0, 1).any(0).expand(keys).nonzero()
        return int(seen.max()) + 1 if len(seen) else keys
    return keys
