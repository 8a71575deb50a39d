"""A model that reads a text again, looking otherwise; and what each of its heads does to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sightline.interventions.intervention import Intervention
from sightline.interventions.written import Room, WrittenChange, make_changes
from sightline.reading.opened import OpenedModel
from sightline.reading.outcome import Answering, Outcome
from sightline.reading.output import CHOICES, Output
from sightline.reading.reading import LayerFacts, Reading, Section
from sightline.removing import effects
from sightline.tracing import trace
from sightline.tracing.call import AttentionCall
from sightline.view.server.cancel import StoppedError
from sightline.view.server.catalogue import OpenTrace, ServeError, open_reading
from sightline.view.server.ran import Before

Check = Callable[[], None]


def rooms_of(reading: Reading) -> dict[str, Room]:
    """How much there is in each section."""
    return {
        section.name: Room(
            len(section.layers),
            min(matrix.shape[1] for matrix in section.layers),
            len(section.queries),
            len(section.keys),
        )
        for section in reading.sections
    }


def changed(
    opened: OpenedModel, base: OpenTrace, changes: Sequence[WrittenChange], check: Check
) -> tuple[OpenTrace, Outcome, Outcome]:
    """(the trace of the run with the changes, what came out before, what comes out now).

    Raises:
        ServeError: the model cannot be changed so.
        StoppedError: by ``check``.
    """
    assert base.asked is not None
    answering = opened.answering()
    before = _before(answering, base)
    check()
    try:
        calls, outcome = _again(answering, base, changes, before.layers)
        check()
        with Intervention(answering.model, strict=False) as change, torch.no_grad():
            make_changes(change, changes, before.layers)
            text = answering.write(base.asked.text)
    except (ValueError, NotImplementedError, MemoryError) as error:
        raise ServeError(str(error)) from None
    after = outcome._replace(text=text)
    reading = _reading(base.reading, calls, before, after, len(changes))
    made = open_reading(reading, f"{base.title} · what if")
    made.asked = replace(base.asked, of=base.id)
    return made, before.outcome, after


def _before(answering: Answering, base: OpenTrace) -> Before:
    asked = base.asked
    assert asked is not None
    if asked.before is None:
        calls, outcome = _again(answering, base, (), {})
        text = answering.write(asked.text)
        asked.before = Before(outcome._replace(text=text), _layers_of(base.reading.sections, calls))
    return asked.before


def _again(
    answering: Answering,
    base: OpenTrace,
    changes: Sequence[WrittenChange],
    layers: Mapping[str, Sequence[int]],
) -> tuple[list[AttentionCall], Outcome]:
    """Runs the model as it ran, with changes."""
    assert base.asked is not None
    args, kwargs = base.asked.ran
    with torch.no_grad(), Intervention(answering.model) as change, trace(answering.model) as caught:
        make_changes(change, changes, layers)
        output = answering.model(*args, **kwargs)
    return list(caught), answering.outcome(output)


def _layers_of(sections: Sequence[Section], calls: Sequence[AttentionCall]) -> dict[str, list[int]]:
    """The layers of each section among all that ran.

    Raises:
        ServeError: they are not the same.
    """
    left = {
        True: [at for at, call in enumerate(calls) if call.kind == "self"],
        False: [at for at, call in enumerate(calls) if call.kind != "self"],
    }
    layers: dict[str, list[int]] = {}
    for section in sections:
        own = left[section.is_self][: len(section.layers)]
        del left[section.is_self][: len(section.layers)]
        shapes = [matrix.shape for matrix in section.layers]
        if [calls[at].shape for at in own] != shapes:
            raise ServeError("what if: the model's layers ran in another order than they are shown in.")
        layers[section.name] = own
    return layers


def _reading(
    base: Reading, calls: Sequence[AttentionCall], before: Before, after: Outcome, count: int
) -> Reading:
    """The reading with the matrices of the changed run."""
    sections = []
    for section in base.sections:
        own = [calls[at] for at in before.layers[section.name]]
        facts = tuple(LayerFacts(call.name, call.verified, call.reason or "") for call in own)
        sections.append(
            replace(section, layers=tuple(call.matrix for call in own), facts=facts, gradients=())
        )
    notice = f"what if: the model looks otherwise here ({count} change{'s' if count > 1 else ''})"
    output = None if base.output is None else _output(base.output, after)
    return replace(base, sections=tuple(sections), notices=(notice, *base.notices), output=output)


def _output(before: Output, after: Outcome) -> Output | None:
    if before.kind == "text":
        return None if after.text is None else replace(before, text=after.text.strip(), given=False)
    if not after.candidates:
        return None
    choices = after.candidates[-1][:CHOICES]
    return replace(before, text=choices[0][0], choices=choices)


def effects_of_heads(
    opened: OpenedModel, base: OpenTrace, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """What each head does to the model's answer: a number for each, by section and layer.

    Raises:
        ServeError: the model has no answer that is a number, or its heads cannot be removed.
    """
    assert base.asked is not None
    answering = opened.answering()
    before = _before(answering, base)
    progress(0, 1)
    question = answering.question(base.asked.text, base.asked.pair)
    try:
        found = effects(question.model, question.inputs, question.metric, "heads", progress=progress)
    except (ValueError, NotImplementedError, MemoryError) as error:
        raise ServeError(str(error)) from None
    if not found.complete:
        raise StoppedError
    values = found.values.tolist()
    heads = {
        section.name: [matrix.shape[1] for matrix in section.layers] for section in base.reading.sections
    }
    return {
        "about": question.about,
        "baseline": float(found.baseline),
        "sections": {
            name: [values[at][:count] for at, count in zip(own, heads[name], strict=True)]
            for name, own in before.layers.items()
        },
    }
