"""The kinds of change, each with what it is about and what it makes of a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.backends import Problem, with_tensors
from sightline.backends.select import select_heads
from sightline.common.check import number, shown
from sightline.interventions.looking import Looking
from sightline.interventions.masking import hidden, of_weights, uniform, weighed
from sightline.interventions.selection import Selection, grid
from sightline.interventions.setting import set_to
from sightline.matrix import AttentionMatrix
from sightline.tracing.choice import LayerChoice

Places = list[int] | None

#: What a head may be replaced by.
HOWS = ("zero", "mean", "uniform")
#: What may be patched.
STAGES = ("query", "key", "value", "context")


class Change:
    """A change of some heads in some layers; the others stay as they were, where it is ``alone``.

    Args:
        word: what it is called.
        layers: in which layers.
        head, batch: of which heads, and which entries of the batch.
        positions: queries and keys, and the like, by name.
    """

    alone = True

    def __init__(self, word: str, layers: LayerChoice, head: Any, batch: Any, **positions: Any) -> None:
        self.word, self.layers = word, layers
        self.head, self.batch = Selection("head", head), Selection("batch", batch)
        self.positions = {name: Selection(name, given) for name, given in positions.items()}
        self.applied = self.called = False

    def apply(self, looking: Looking, start: int) -> bool:
        """Changes a call whose first query stands at ``start``; whether it was about that call at all."""
        self.called = True
        b, h, n, m = looking.shape
        heads, batch = self.head.within(h), self.batch.within(b)
        met: dict[str, tuple[Places, list[int]]] = {}
        for name, selection in self.positions.items():
            met[name] = selection.met_by(start, n) if name == "queries" else selection.met_by(0, m)
        if any(places == [] for places, _ in met.values()) or heads == [] or batch == []:
            return False
        self._change(looking, heads, batch, met)
        looking.touch(heads if self.alone else None)
        self.applied = True
        return True

    def _change(
        self, looking: Looking, heads: Places, batch: Places, met: dict[str, tuple[Places, list[int]]]
    ) -> None:
        raise NotImplementedError

    def missing(self) -> str | None:
        """What the change was about and did not meet, as a message; ``None`` if it met everything."""
        layers = self.layers.missing()
        if layers is not None:
            return layers
        if not self.called:
            return "it met no call: no attention ran in these layers."
        for name, selection in self.positions.items():
            if selection.unmet:
                return f"{name}: no call had {selection.unmet}: what ran was shorter."
        return None if self.applied else "it met no call: nothing was left of what it was about."

    def __repr__(self) -> str:
        about = {"head": self.head, "batch": self.batch, **self.positions}
        return f"{self.word}({', '.join(f'{name}={one}' for name, one in about.items() if not one.whole)})"


class Block(Change):
    """Some queries do not see some keys."""

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        queries, keys = met["queries"][0], met["keys"][0]
        looking.change(heads, lambda problem, here: hidden(problem, batch, here, queries, keys))


class Scale(Change):
    """Some weights times a number; their rows sum to 1 again."""

    by: float = 1.0

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        queries, keys, by = met["queries"][0], met["keys"][0], self.by
        looking.change(heads, lambda problem, here: weighed(problem, batch, here, queries, keys, by))


class SetWeight(Change):
    """Some keys together get a given weight; the others of the row share the rest as before."""

    to: float = 1.0
    seen = False

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        queries, keys, to = met["queries"][0], met["keys"][0], self.to
        every = list(range(looking.shape[3])) if keys is None else keys

        def given(problem: Problem, here: Places) -> Problem:
            made, seen = set_to(problem, batch, here, queries, every, to)
            self.seen |= seen
            return made

        looking.change(heads, given)

    def missing(self) -> str | None:
        """See :class:`Change`; what no query may look at cannot be given a weight."""
        reason = super().missing()
        if reason is None and not self.seen:
            return "none of these queries may look at any of these keys, so no weight can be given."
        return reason


class Ablate(Change):
    """Some heads give something that says nothing."""

    how: str | Tensor = "zero"

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        if isinstance(self.how, Tensor):
            looking.after.append(_setting(heads, batch, None, [], self.how, "how"))
            looking.unexplained = f"the context of {self!r} was given"
        elif self.how == "zero":
            looking.change(heads, lambda problem, here: hidden(problem, batch, here, None, None))
            if looking.after:
                looking.after.append(_setting(heads, batch, None, [], torch.zeros(1), "how"))
        elif self.how == "mean":
            looking.after.append(lambda context: _mean(context, heads, batch))
            looking.average(heads, batch)
        elif batch is None:
            looking.apart(heads, lambda problem, here: uniform(problem))
        else:
            looking.apart(heads, lambda problem, here: _uniform_for(problem, batch))


def _uniform_for(problem: Problem, batch: list[int]) -> Problem:
    """Uniform weights for some entries of the batch."""
    others = (problem.softcap, problem.slopes, problem.table, problem.sinks)
    if any(term is not None for term in others):
        raise ValueError(
            'batch: how="uniform" for a part of the batch takes attention without soft caps, ALiBi, tables '
            "and sinks. Leave batch out, or take another how."
        )
    b = problem.shape[0]
    index = torch.tensor(batch, device=problem.query.device)
    query = problem.query.index_fill(0, index, 0.0)
    bias = problem.bias
    if bias is not None:
        flat = torch.zeros_like(bias).masked_fill(bias.detach() == -torch.inf, -torch.inf)
        flat = flat.expand(b, *flat.shape[1:])
        bias = bias.expand(b, *bias.shape[1:]).index_copy(0, index, flat[index])
    return replace(problem, query=query, bias=bias)


def _mean(context: Tensor, heads: Places, batch: Places) -> Tensor:
    """The context with the mean over the queries in the place of some heads' own."""
    mean = context.mean(2, keepdim=True).expand_as(context)
    index = grid(tuple(context.shape[:2]), [batch, heads], context.device)
    return context.index_put(index, mean[index])


def _setting(
    heads: Places, batch: Places, positions: Places, given: list[int], value: Tensor, name: str
) -> Callable[[Tensor], Tensor]:
    return lambda tensor: put(tensor, heads, batch, positions, given, value, name)


def put(
    tensor: Tensor,
    heads: Places,
    batch: Places,
    positions: Places,
    given: list[int],
    value: Tensor,
    name: str,
) -> Tensor:
    """[B,H,N,X] with ``value`` at some places.

    Args:
        tensor: what is changed; a copy is.
        heads, batch, positions: where; ``None`` for everywhere.
        given: which of the value's positions are meant, where it has more than one.
        value: broadcasts to [batch, heads, positions, X].
        name: the argument's name.
    """
    index = grid(tuple(tensor.shape[:3]), [batch, heads, positions], tensor.device)
    wanted = (*(place.numel() for place in index), tensor.shape[3])
    four = value[(None,) * max(0, 4 - value.dim())].to(tensor)
    if positions is not None and four.shape[2] > len(given) and four.shape[2] > 1:
        four = four[:, :, given]
    try:
        four = four.expand(wanted)
    except RuntimeError:
        raise ValueError(
            f"{name}: shape {list(value.shape)} does not broadcast to {list(wanted)} "
            "([batch, heads, positions, width] of what is patched)."
        ) from None
    return tensor.index_put(index, four)


class Replace(Change):
    """The pattern of another run in the place of some heads' own."""

    weights: Tensor | AttentionMatrix

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        count = looking.shape[1]
        chosen = list(range(count)) if heads is None else heads
        order = {head: at for at, head in enumerate(chosen)}
        weights = self.weights
        given = weights.four_axes() if isinstance(weights, AttentionMatrix) else _four(weights)
        source = _heads_of(given.shape[1], chosen, count)
        _check_fits(tuple(given.shape), looking.shape)

        def other(problem: Problem, here: list[int]) -> Problem:
            those = [source[order[head]] for head in here]
            if isinstance(given, AttentionMatrix):
                return _of_matrix(problem, given, those)
            return of_weights(problem, given[:, those].to(problem.query.device))

        looking.apart(heads, other)


def _four(weights: Tensor) -> Tensor:
    return weights[(None,) * max(0, 4 - weights.dim())]


def _heads_of(given: int, chosen: list[int], count: int) -> list[int]:
    """Which of the given heads goes where."""
    if given == 1:
        return [0] * len(chosen)
    if given == len(chosen):
        return list(range(given))
    if given == count:
        return chosen
    raise ValueError(
        f"weights: have {given} heads, and {len(chosen)} of {count} are to be replaced. "
        "Give 1, as many as are replaced, or all."
    )


def _check_fits(given: tuple[int, ...], shape: tuple[int, int, int, int]) -> None:
    if given[0] not in (1, shape[0]) or given[2:] != shape[2:]:
        raise ValueError(
            f"weights: shape {list(given)} does not fit this call's [B,H,N,M] = {list(shape)}. "
            "Trace the other run with the same lengths."
        )


def _of_matrix(problem: Problem, matrix: AttentionMatrix, heads: list[int]) -> Problem:
    """Another matrix's weights over this problem's values."""
    assert problem.value is not None
    matrix = matrix.detach().to(device=problem.query.device)
    other = select_heads(matrix.problem, heads)
    b = problem.shape[0]
    value = problem.value.repeat_interleave(problem.group, 1) if problem.group > 1 else problem.value
    key = other.key.repeat_interleave(other.group, 1) if other.group > 1 else other.key
    query = other.query
    if query.shape[0] != b:
        query, key = (tensor.expand(b, *tensor.shape[1:]) for tensor in (query, key))
    return replace(
        other,
        query=query.to(value.dtype),
        key=key.to(value.dtype),
        value=value,
        dropout=problem.dropout,
        seed=problem.seed,
    )


class Patch(Change):
    """Queries, keys, values or contexts of another run at some positions."""

    alone = False  # heads share keys and values
    stage: str = "value"
    value: Tensor

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        positions, given = next(iter(met.values()))
        value, stage = self.value, self.stage
        if stage == "context":
            looking.after.append(_setting(heads, batch, positions, given, value, "value"))
            looking.unexplained = f"the context was patched: {self!r}"
            return

        def patched(problem: Problem, here: list[int] | None) -> Problem:
            tensor = put(getattr(problem, stage), here, batch, positions, given, value, "value")
            return with_tensors(problem, {stage: tensor})

        groups = looking.parts[0].problem.key.shape[1]
        shared = heads is None and (value.dim() < 4 or value.shape[-3] in (1, groups))
        if stage == "query" or shared:
            looking.change(heads, patched)
        else:
            order = list(range(looking.shape[1])) if heads is None else heads
            looking.apart(heads, lambda problem, here: _patched_apart(problem, here, order, self, batch, met))


def _patched_apart(
    problem: Problem, here: list[int], order: list[int], change: Patch, batch: Places, met: Any
) -> Problem:
    """Keys or values of some query heads, each with its own by now."""
    assert problem.value is not None
    positions, given = next(iter(met.values()))
    key, value = problem.key, problem.value
    if problem.group > 1:
        key, value = (tensor.repeat_interleave(problem.group, 1) for tensor in (key, value))
    four = change.value[(None,) * max(0, 4 - change.value.dim())]
    if four.shape[1] == len(order) > 1:
        four = four[:, [order.index(head) for head in here]]
    whole = {"key": key, "value": value}
    whole[change.stage] = put(whole[change.stage], None, batch, positions, given, four, "value")
    return replace(problem, key=whole["key"], value=whole["value"])


def as_tensor(name: str, value: Any) -> Tensor:
    """A number or a tensor, as a tensor that wants no gradient."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.tensor(float(value))
    if not isinstance(value, Tensor) or isinstance(value, AttentionMatrix):
        raise TypeError(f"{name}: must be a tensor or a number, got {shown(value)}.")
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name}: wants gradients, which do not reach what is put in. Use .detach().")
    return value.detach()


def share(to: Any) -> float:
    """A weight, or an error."""
    value = number("to", to, 0)
    if value > 1:
        raise ValueError(f"to: a weight is from 0 to 1, got {value:g}.")
    return value


def factor(by: Any) -> float:
    """A factor of weights, or an error."""
    return number("by", by, 0)
