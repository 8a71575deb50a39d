"""Errors of ``sightline look``."""

from __future__ import annotations

from sightline.common.errors import CommandError


class LookError(CommandError):
    """``sightline look`` cannot do what it was asked."""
