"""Functions of weights and scores that backends have kernels for, recognised by what they do.

A short function that names nothing but arithmetic is called with stand-ins, which note what is done to them.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import fx

from sightline.backends.contract import Summand

#: What a function does, as nested tuples: ("mul", "w", "s").
Expression: TypeAlias = Any

# Names that a function may use; with others it may do more than its result says.
_NAMES = frozenset(
    {"torch", "abs", "square", "pow", "mul", "float", "double", "to", "float32", "float64", "gt", "sub"}
)
_CASTS = frozenset({"float", "double", "to"})
_LONGEST = 200  # bytes of code
_ARGUMENTS = ("w", "s", "i", "j")
_DISTANCE = ("abs", ("sub", "i", "j"))


def recognised(function: Callable[..., Any]) -> Summand | None:
    """The summand that a function computes, or ``None``."""
    if not _is_plain(function):
        return None
    try:
        return _named(_traced(function))
    except Exception:  # whatever it is, the function itself will say so
        return None


def _is_plain(function: Callable[..., Any]) -> bool:
    """Whether a function is short, takes the four arguments and uses nothing but arithmetic."""
    if not isinstance(function, types.FunctionType):
        return False
    code = function.__code__
    return (
        code.co_argcount == len(_ARGUMENTS)
        and not code.co_kwonlyargcount
        and len(code.co_code) <= _LONGEST
        and all(name in _NAMES or _is_number(function.__globals__.get(name)) for name in code.co_names)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _traced(function: Callable[..., Any]) -> Expression:
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    stand_ins = [fx.Proxy(graph.placeholder(name), tracer) for name in _ARGUMENTS]
    return _expression(function(*stand_ins))


def _expression(value: Any) -> Expression:
    if isinstance(value, fx.Proxy):
        return _expression(value.node)
    if not isinstance(value, fx.Node):
        return value
    if value.op == "placeholder":
        return value.name
    name = value.target if isinstance(value.target, str) else getattr(value.target, "__name__", "")
    return _simplified(name, [_expression(one) for one in value.args], dict(value.kwargs))


def _simplified(name: str, args: list[Expression], options: dict[str, Any]) -> Expression:
    """One form for what means the same."""
    if name in _CASTS:
        return args[0]
    if options:
        return (name, *args, tuple(options))
    if name == "pow" and args[1:] == [2] or name == "mul" and args[0] == args[1]:
        return ("square", args[0])
    if name == "sub" and args == ["j", "i"]:
        return ("sub", "i", "j")  # its sign does not matter to what it is asked for
    if name == "mul":
        return ("mul", *sorted(args, key=repr))
    return (name, *args)


def _named(expression: Expression) -> Summand | None:
    if expression == "w":
        return Summand("weight")
    if expression == ("square", "w"):
        return Summand("weight_squared")
    if expression == "s":
        return Summand("score")
    if expression == ("mul", "s", "w"):
        return Summand("weight_times_score")
    if expression == ("mul", *sorted(["w", _DISTANCE], key=repr)):
        return Summand("weight_times_distance")
    if isinstance(expression, tuple) and expression[:2] == ("gt", "w") and len(expression) == 3:
        threshold = expression[2]
        if _is_number(threshold):
            return Summand("weight_above", float(threshold))
    return None
