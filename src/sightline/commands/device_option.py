"""The option ``--device`` of every command that runs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

Device = Annotated[
    str, typer.Option(metavar="WORD", help="Where the model runs: auto, cpu, cuda (cuda:1), mps.")
]


def chosen_device(word: str) -> torch.device:
    """The device; a warning about it is a line on stderr.

    Raises:
        DeviceError: for an unknown word, or a device that cannot be used.
    """
    import sys
    import warnings

    from sightline.common.devices import device_named

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        device = device_named(word)
    for one in told:
        print(f"sightline: {one.message}", file=sys.stderr)
    return device
