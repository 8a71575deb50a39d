"""The error of what was given to be read or shown."""

from __future__ import annotations

from sightline.common.errors import CommandError


class InputError(CommandError):
    """A text, a trace or a choice of what to show that cannot be used; the message says why."""
