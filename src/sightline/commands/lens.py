"""``sightline lens``: what a word's vector says in words after each layer, and what each head brought."""

from __future__ import annotations

import json as json_files
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.commands.device_option import Device, chosen_device
from sightline.common.atomic import check_writable, write_atomically
from sightline.common.errors import CommandError
from sightline.reading.source import read_source

if TYPE_CHECKING:
    from sightline.reading.reading import Reading

FORMAT = "sightline.lens/1"


def lens(
    text: Annotated[str, typer.Argument(help="A text, a text file, or - for standard input.")],
    pair: Annotated[
        str | None, typer.Argument(metavar="[TEXT2]", help="The target of a translation or summary.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Folder, task, or Hugging Face name. Default: translation (English to German)."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="Whose vector: a word that the model reads or wrote, or a place: #3. Default: the last.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="How many parts to show.")] = 8,
    halves: Annotated[bool, typer.Option("--halves", help="Read out behind attention, too.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers as JSON.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Use at most this many tokens of the text.")] = None,
    device: Device = "auto",
) -> None:
    """Show what a word's vector says after each layer, read out as words, and what each head brought."""
    if top < 1:
        raise CommandError(f"--top {top}: at least 1")
    if max_tokens is not None and max_tokens < 1:
        raise CommandError(f"--max-tokens {max_tokens}: at least 1")
    if json is not None:
        check_writable(json)
    from sightline.commands.opening import open_model

    opened = open_model(model, head=True, device=chosen_device(device))
    reading = opened.read(read_source(text), None if pair is None else read_source(pair), max_tokens)
    found = _asked(reading, at)
    print("\n".join(_lines(found, top, halves)))
    if json is not None:
        write_atomically(json, [json_files.dumps(found, ensure_ascii=False, allow_nan=False), "\n"])


def _asked(reading: Reading, at: str | None) -> dict[str, Any]:
    """What is said at a word, with what it is about."""
    from sightline.view.choice import find_query
    from sightline.view.layers import by_token
    from sightline.view.lens import lens_about, lens_at

    if reading.lens is None:
        raise CommandError(
            f"{reading.model} has no output matrix that its vectors could be read through; take a model that "
            "writes text, or one of masked words"
        )
    section = reading.section(reading.lens.sections[0])
    ordinary = [token.index for token in section.queries if not token.special]
    place = ordinary[-1] if ordinary else len(section.queries) - 1
    if at is not None:
        place = find_query(by_token(section), at, "--at")[0]
    about = lens_about(reading.lens)
    try:
        said = lens_at(reading.lens, place % len(section.queries))
    except ValueError as error:
        raise CommandError(str(error)) from None
    parts = [part["name"] for part in about["parts"] or []]
    stages = [{**stage, **told} for stage, told in zip(about["stages"], said["stages"], strict=True)]
    return {
        "format": FORMAT,
        "model": reading.model,
        "texts": list(reading.texts),
        "token": section.queries[place].text,
        "position": said["position"],
        "word": said["word"],
        "stages": stages,
        "contributions": dict(zip(parts, said["parts"], strict=True)) if said["parts"] else None,
        "notes": about["notes"],
    }


def _lines(found: dict[str, Any], top: int, halves: bool) -> Iterator[str]:
    """The words of each stage in columns, then who brought the last."""
    word, stages = found["word"]["text"], found["stages"]
    vector = f"the vector of {found['token']!r} (#{found['position']})"
    yield f"{found['model']}: what {vector} says; at the end {word!r}"
    yield ""
    yield f"{'after':<26}{'likeliest':<66}{word!r}: rank, probability"
    for at, stage in enumerate(stages):
        if halves or at + 1 == len(stages) or stages[at + 1]["layer"] != stage["layer"]:
            words = "  ".join(f"{each['text']} {each['probability']:.3f}" for each in stage["words"])
            yield f"{stage['name']:<26}{words:<66}{stage['rank']:>5}  {stage['probability']:.4f}"
    if found["contributions"]:
        yield ""
        yield f"brought to the logit of {word!r}, {found['word']['logit']:.3f}, directly"
        largest = sorted(found["contributions"].items(), key=lambda entry: -abs(entry[1]))
        yield from (f"{value:+9.3f}  {name}" for name, value in largest[:top])
        rest = sum(value for _, value in largest[top:])
        if largest[top:]:
            yield f"{rest:+9.3f}  {len(largest) - top} other parts"
    yield from found["notes"]
