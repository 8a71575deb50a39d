"""Problems of whole sequences, made alike in every process, and what one process finds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

import sightline
from sightline import distributed


class Whole(NamedTuple):
    """A call of attention on one process, and the gradient that its context gets."""

    query: Tensor
    key: Tensor
    value: Tensor
    options: dict[str, Any]
    upstream: Tensor


#: By name, options for [2,4,N,·] queries and [2,2,M,·] keys.
NAMES = (
    "nothing", "causal", "top-left", "window", "both sides", "prefix", "lengths", "documents", "ranges",
    "sinks", "or", "dense", "dense of all", "dense or", "alibi", "relative", "bias", "row bias", "softcap",
    "dropout", "per entry", "very far", "learned scale",
)  # fmt: skip


def options(name: str, n: int, m: int) -> dict[str, Any]:
    """The options of a name; tensors that want gradients are leaves."""
    causal = sightline.causal()
    some = torch.rand(2, 1, n, m) < 0.6
    found: dict[str, dict[str, Any]] = {
        "nothing": {},
        "causal": {"mask": causal},
        "top-left": {"mask": sightline.causal("top-left"), "scale": 0.3},
        "window": {"mask": sightline.window(4, 0)},
        "both sides": {"mask": sightline.window(3, 2, align=torch.tensor([1, -2]))},
        "prefix": {"mask": sightline.prefix(3) | causal},
        "lengths": {"mask": sightline.lengths([m - m // 3, m // 4]) & causal},
        "documents": {"mask": sightline.documents(*(torch.arange(k) * 4 // max(1, k) for k in (n, m)))},
        "ranges": {"mask": sightline.ranges(torch.randint(-2, m + 1, (2, 4, n)), m - 1)},
        "sinks": {"mask": causal, "sinks": torch.randn(4)},
        "or": {"mask": sightline.window(1, 0) | sightline.prefix(2)},
        "dense of all": {"mask": some},
        "dense or": {"mask": sightline.dense(some) | sightline.window(0, 0)},
        "dense": {"mask": sightline.dense(some) & causal},
        "alibi": {"mask": causal, "bias": sightline.alibi(torch.rand(4))},
        "relative": {"bias": sightline.relative(torch.randn(4, 7), align="top-left")},
        "bias": {"bias": torch.randn(1, 4, n, m)},
        "row bias": {"bias": torch.randn(2, 1, 1, m)},
        "softcap": {"softcap": 2.0},
        "dropout": {"mask": causal, "dropout": 0.3},
        "per entry": {"bias": sightline.alibi(torch.rand(2, 4), torch.tensor([2, -1]))},
        "very far": {"bias": torch.full((1, 1, n, m), -1e9).masked_fill(torch.rand(n, 1) < 0.5, 0)},
        "learned scale": {"scale": torch.tensor(0.4, dtype=torch.float64)},
    }
    return found[name]


def learned(given: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of options that get gradients, by name; made leaves that want them, in float64."""
    leaves = {}
    for name in ("bias", "sinks", "scale"):
        term = given.get(name)
        if isinstance(term, Tensor):
            given[name] = leaves[name] = term.double().requires_grad_()
        elif name == "bias" and term is not None:
            inner = "slopes" if hasattr(term, "slopes") else "table"
            leaves[inner] = getattr(term, inner).double().requires_grad_()
            setattr(term, inner, leaves[inner])
    return leaves


def whole(name: str, n: int, m: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Whole:
    """A problem of a name."""
    torch.manual_seed(seed)
    query, upstream = torch.randn(2, 4, n, 6, dtype=dtype), torch.randn(2, 4, n, 5, dtype=dtype)
    key, value = torch.randn(2, 2, m, 6, dtype=dtype), torch.randn(2, 2, m, 5, dtype=dtype)
    return Whole(query, key, value, options(name, n, m), upstream)


def computed(problem: Whole) -> dict[str, Tensor]:
    """Context and gradients on one process, by name."""
    leaves = learned(problem.options)
    inputs = {name: getattr(problem, name).requires_grad_() for name in ("query", "key", "value")}
    torch.manual_seed(1)
    context = sightline.attention(*inputs.values(), **problem.options)
    context.backward(problem.upstream)
    found = {name: one.grad for name, one in (inputs | leaves).items()}
    return found | {"context": context.detach()}


def shared(problem: Whole, parts: dict[str, Any], group: Any, **how: Any) -> dict[str, Tensor]:
    """The same on several processes, put together again: gradients of parameters are summed.

    Args:
        problem: the whole.
        parts: "query" and "key": functions that cut a tensor along an axis into this process's part.
        group, how: for context_parallel.
    """
    leaves = learned(problem.options)
    own = {
        name: parts["query" if name == "query" else "key"](getattr(problem, name), 2).clone().requires_grad_()
        for name in ("query", "key", "value")
    }
    torch.manual_seed(1)
    with distributed.context_parallel(group, timeout=20, **how):
        context = sightline.attention(*own.values(), **problem.options)
    context.backward(parts["query"](problem.upstream, 2))
    with distributed.context_parallel(group, timeout=20, **how):
        found = {name: distributed.unshard(one.grad, 2) for name, one in own.items()}
        found["context"] = distributed.unshard(context.detach(), 2)
    for name, one in leaves.items():
        found[name] = torch.zeros_like(one) if one.grad is None else one.grad
        torch.distributed.all_reduce(found[name], group=group)
    return found
