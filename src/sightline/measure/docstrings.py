"""What the docstrings of measures have in common: written once, and added to each by its parameters.

A measure's own docstring says what is its own: a sentence, its own arguments, what it returns where that is
unusual, what else it raises, an example. From here come the arguments that many measures take, what a mean
counts, and what they all raise; from the catalogue formula, unit, source and caveat.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any, TypeVar, cast

from sightline.measure.subject import measured_rows

Function = TypeVar("Function", bound=Callable[..., Any])

_ARGUMENTS = {
    "A": "AttentionMatrix [B,H,N,M], or a traced call that holds one.",
    "left": "AttentionMatrix [B,H,N,M], or a traced call that holds one.",
    "right": "the matrix that it is compared with, of the same shape.",
    "tokens": "[M] or [B,M] token ids of the keys; query i's own token is the one at its position.",
    "keys": "how many first keys (of those that some query of the batch entry may see, so that left padding "
    "is skipped), or which: a slice, positions [K] or [B,K], a bool tensor [M] or [B,M]. Default: the first.",
    "align": "where query 0 stands, as for :func:`sightline.causal`. Default: the last query stands at the "
    "last key.",
    "per_query": "[B,H,N], one number per query, instead of their mean. Default: the mean.",
    "queries": "bool [N] or [B,N], which queries count; leave padding out here. Default: all.",
    "unverified": "measure traced calls that were not verified, too. Default: they are refused.",
}
_MEAN_OF_ROWS = (
    "[B,H], the mean over queries that see a key; NaN where none does. A fully masked row reads 0."
)
_MEAN_OF_PAIRS = (
    "[B,H], the mean over queries that see a key in both; NaN where none does. What a learned sink takes "
    "counts as one more key."
)
# What is checked for its kind and its shape.
_CHECKED = ("tokens", "keys", "align", "queries")

_SECTION = re.compile(r"^(Args|Returns|Raises|Example):\n", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(?=\S)", re.MULTILINE)


def documented(function: Function) -> Function:
    """Completes a measure's docstring and signature."""
    function.__doc__ = completed(function, "")
    return function


def completed(function: Callable[..., Any], facts: str) -> str:
    """The whole docstring of a measure; ``facts`` stand before its example.

    Also writes out, in the function's signature, the options that it passes on.
    """
    signature = _written_out(inspect.signature(function))
    cast(Any, function).__signature__ = signature
    head, *rest = _SECTION.split(inspect.cleandoc(function.__doc__ or ""))
    own = dict(zip(rest[::2], rest[1::2], strict=True))
    raised = [own["Raises"].rstrip()] if "Raises" in own else []
    parts = [
        head.rstrip(),
        "Args:\n" + _arguments(own.get("Args", ""), signature),
        "Returns:\n" + own.get("Returns", _indented(_returned(signature))).rstrip(),
        "Raises:\n" + "\n".join([*raised, *_raised(signature)]),
        facts,
        "Example:\n" + own.get("Example", "").rstrip(),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _written_out(signature: Signature) -> Signature:
    """With the options of rows one by one, where a measure passes them on together."""
    options = inspect.signature(measured_rows).parameters.values()
    parameters: list[Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            parameters += [option for option in options if option.kind is Parameter.KEYWORD_ONLY]
        else:
            parameters.append(parameter)
    return signature.replace(parameters=parameters)


def _arguments(own: str, signature: Signature) -> str:
    """The function's own entries and the common ones, in the order of its parameters."""
    entries: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in _ENTRY.split(own))):
        names = entry.partition(":")[0].split(", ")
        entries |= dict.fromkeys(names, entry)
    lines = []
    for name in signature.parameters:
        entry = entries.get(name) or _hanging(f"{name}: {_ARGUMENTS[name]}")
        if f"    {entry}" not in lines:  # one entry may be that of several parameters
            lines.append(f"    {entry}")
    return "\n".join(lines)


def _returned(signature: Signature) -> str:
    return _MEAN_OF_PAIRS if "left" in signature.parameters else _MEAN_OF_ROWS


def _raised(signature: Signature) -> list[str]:
    parameters = signature.parameters
    kinds = [f"``{name}``" for name in _CHECKED if name in parameters]
    entries = []
    if kinds:
        entries.append(f"TypeError, ValueError: for {_listed(kinds)} that do not fit.")
    if "left" in parameters:
        entries.append("ValueError: for matrices of different shapes.")
    entries.append("TypeError: for anything that neither is an AttentionMatrix nor holds one.")
    entries.append("UnverifiedError: for a traced call that was not verified.")
    return [_indented(entry) for entry in entries]


def _listed(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} or {last}" if before else last


def _hanging(text: str) -> str:
    """An entry without its indent; its further lines have theirs."""
    return textwrap.fill(text, 96, subsequent_indent=" " * 8, break_on_hyphens=False)


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, 96, break_on_hyphens=False), " " * 4)
