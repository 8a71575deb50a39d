"""A trace as a reading: its calls sorted into stacks, with tokens, so that all views can show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sightline.reading.errors import InputError
from sightline.reading.pieces import joined
from sightline.reading.reading import LayerFacts, Reading, Section, sees_first_only
from sightline.reading.recorded import lens_of
from sightline.reading.tokens import Token, tokens_of_places, tokens_of_strings
from sightline.reading.unknown import unknown_notices
from sightline.tracing.choice import LayerChoice, Layers

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.matrix import AttentionMatrix
    from sightline.tracing.call import AttentionCall
    from sightline.tracing.calls import Calls

Lists = Sequence[tuple[Token, ...]]

_STACK = re.compile(r"encoder|decoder|text|vision|audio", re.IGNORECASE)


def reading_of(
    trace: Calls,
    title: str | None = None,
    layers: Layers | None = None,
    tokens: Sequence[str] | Sequence[Sequence[str]] | None = None,
    batch: int = 0,
    unverified: bool = False,
    vocabulary: Iterable[str] = (),
) -> Reading:
    """The reading of a trace, as views take it.

    Args:
        trace: the calls.
        title: what to call the input. Default: its tokens, or the model.
        layers: the calls to take; see ``Calls.report``. Default: all.
        tokens: strings, one for each position; or two lists, of a source and of a target.
        batch: which batch entry.
        unverified: take calls that were not verified, too.
        vocabulary: all pieces that the model knows, for the notice about unknown ones.

    Raises:
        InputError: nothing is left to show, or the tokens fit nothing.
    """
    calls, notices = shown(trace, layers, unverified)
    size = calls[0].matrix.shape[0]
    if not 0 <= batch < size:
        raise InputError(f"batch={batch}: the trace has {size} batch entries, 0 to {size - 1}")
    if size > 1:
        cut = ", a window of the input each" if calls[0].windows > 1 else ""
        notices.append(f"batch entry {batch} of {size}{cut}")
    stacks = _stacks(calls)
    given = _given(trace.tokens if tokens is None else tokens)
    sides = _sides(trace, given)
    sections = tuple(_section(name, stack, *sides, batch) for name, stack in stacks.items())
    known = {id(side) for section in sections for side in (section.queries, section.keys)} & {
        id(each) for each in given
    }
    if tokens is not None and not known:
        counts = ", ".join(str(len(each)) for each in given)
        lengths = ", ".join(f"{s.name} {len(s.queries)} × {len(s.keys)}" for s in sections)
        raise InputError(f"tokens: there are {counts}, but the calls have {lengths}")
    if not known:
        notices.append("no tokens of these lengths are known: queries and keys are shown by their places")
    notices = [*unknown_notices(_named(sections), vocabulary), *notices]
    texts = (title,) if title else tuple(_text(each) for each in given if id(each) in known)
    model = trace.model or "a traced model"
    lens = lens_of(trace.recorded, sections, batch)
    return Reading(model, texts, sections, (*trace.notices, *notices), trace.medium, lens=lens)


def shown(trace: Calls, layers: Layers | None, unverified: bool) -> tuple[list[AttentionCall], list[str]]:
    """The calls that can be shown, and notices about the others."""
    chosen = list(trace) if layers is None else _chosen(trace, layers)
    calls = [c for c in chosen if c.shape is not None and 0 not in c.shape and (c.verified or unverified)]
    left = [call for call in chosen if call not in calls]
    if not calls:
        if not left:
            raise InputError("the trace holds no attention call (none ran, or on_call took them)")
        first = left[0]
        raise InputError(
            f"none of its {len(left)} calls can be shown; {first.name or first.index}: "
            f"{first.reason or 'it is empty'} (unverified=True shows matrices that were not verified)"
        )
    notices = [f"left out: {call.name or call.index}: {call.reason or 'it is empty'}" for call in left]
    notices += [
        f"unverified: {call.name or call.index}: {call.reason}" for call in calls if not call.verified
    ]
    return calls, notices


def _chosen(trace: Calls, layers: Layers) -> list[AttentionCall]:
    """The calls of these places, as ``trace[3]`` counts them, and in modules of these names, as they ran."""
    if callable(layers):
        calls = [call for call in trace if layers(call.name)]
        if not calls:
            raise InputError(f"layers: the function takes none of the {len(trace)} calls")
        return calls
    wanted = [layers] if isinstance(layers, (str, int)) else list(layers)
    others = [one for one in wanted if isinstance(one, bool) or not isinstance(one, int)]
    places = [one for one in wanted if isinstance(one, int) and not isinstance(one, bool)]
    wrong = next((at for at in places if not -len(trace) <= at < len(trace)), None)
    if wrong is not None:
        raise InputError(f"layers: there is no call {wrong}; the trace has {len(trace)} calls")
    numbers = {at % len(trace) for at in places}
    # LayerChoice raises for anything else, and for an empty list.
    names = LayerChoice(others, ()) if others or not places else None
    calls = [
        call
        for at, call in enumerate(trace)
        if (names is not None and names.takes(call.name, call.kind)) or at in numbers
    ]
    missing = names.missing() if names is not None else None
    if missing is not None:
        raise InputError(missing)
    return calls


def _stacks(calls: Sequence[AttentionCall]) -> dict[str, list[AttentionCall]]:
    """Calls of one kind, stack and shape belong together; the names are short, and each its own."""
    grouped: dict[tuple[str, str, int, int], list[AttentionCall]] = {}
    for call in calls:
        _, _, n, m = call.matrix.shape
        grouped.setdefault((call.kind, re.sub(r"\d+", "*", call.name), n, m), []).append(call)
    named: dict[str, list[AttentionCall]] = {}
    for (kind, pattern, n, m), group in grouped.items():
        stack = _STACK.search(pattern)
        name = stack[0].lower() if stack and kind == "self" else kind
        wider = f"{name} {pattern}".strip()
        options = (name, wider, f"{wider} {n} × {m}")
        named[next(option for option in options if option not in named)] = group
    return named


def _sides(trace: Calls, given: Lists) -> tuple[Lists, Lists]:
    """The token lists in the order in which the source's and the target's are looked up.

    A single list that cross-attention looks at is the source's, and never the target's, however long that is.
    """
    looked_at = {call.shape[3] for call in trace if call.kind == "cross" and call.shape is not None}
    if len(given) == 1 and len(given[0]) in looked_at:
        return given, []
    return given, given[::-1]


def _section(name: str, calls: Sequence[AttentionCall], source: Lists, target: Lists, batch: int) -> Section:
    matrices = tuple(_entry(call.matrix, batch) for call in calls)
    _, _, n, m = matrices[0].shape
    is_self = calls[0].kind == "self"
    own = source if name.startswith("encoder") else target
    keys = _of_length(own if is_self else source, m)
    queries = keys if is_self and n == m else _of_length(target, n)
    if is_self and n < m and len(queries) != n:
        queries = keys[m - n :]
    # A single query sees everything up to its own place, in every kind of model.
    causal = is_self and n == m > 1 and all(sees_first_only(matrix) for matrix in matrices)
    facts = tuple(LayerFacts(call.name, call.verified, call.reason or "", _is_whole(call)) for call in calls)
    gradients = _gradients(calls, batch) if is_self and n == m else ()
    return Section(name, queries, keys, matrices, is_self and n == m, causal, facts, gradients)


def _is_whole(call: AttentionCall) -> bool:
    return call.windows == 1 and call.rows == "positions"


def _gradients(calls: Sequence[AttentionCall], batch: int) -> tuple[Tensor, ...]:
    """The gradients of every call, or none if one is missing: relevance goes through all layers."""
    gradients = []
    for call in calls:
        value = call.matrix.problem.value
        if call.gradient is None or value is None:
            return ()
        whole = call.gradient.reshape(*call.matrix.shape[:3], value.shape[3])
        gradients.append(whole[batch : batch + 1].cpu())
    return tuple(gradients)


def _entry(matrix: AttentionMatrix, batch: int) -> AttentionMatrix:
    return matrix.select(batch=slice(batch, batch + 1)).cpu()


def _given(tokens: Sequence[str] | Sequence[Sequence[str]] | None) -> list[tuple[Token, ...]]:
    """The token lists: one, or those of the source and of the target."""
    if tokens is None:
        return []
    several: list[Sequence[object]] = (
        list(tokens) if all(isinstance(each, (list, tuple)) for each in tokens) else [tokens]
    )
    wrong = next((token for each in several for token in each if not isinstance(token, str)), None)
    if wrong is not None:
        raise InputError(f"tokens: a list of strings, or two such lists, source and target; got {wrong!r}")
    return [tokens_of_strings([str(t) for t in each]) for each in several]


def _named(sections: Sequence[Section]) -> list[tuple[str, tuple[Token, ...]]]:
    """Every token list once: the source and the target where one looks at the other, else the text."""
    crossed = any(not section.is_self for section in sections)
    named: dict[int, tuple[str, tuple[Token, ...]]] = {}
    for section in sorted(sections, key=lambda section: section.is_self):
        named.setdefault(id(section.queries), ("the target" if crossed else "the text", section.queries))
        named.setdefault(id(section.keys), ("the source" if crossed else "the text", section.keys))
    return list(named.values())


def _of_length(given: Lists, length: int) -> tuple[Token, ...]:
    """The first token list of that length, else places."""
    for each in given:
        if len(each) == length:
            return each
    return tokens_of_places(length)


def _text(tokens: Sequence[Token]) -> str:
    return joined([(" " if token.space else "") + token.text.removeprefix("##") for token in tokens]).strip()
