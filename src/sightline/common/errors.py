"""What a command tells its user in one line."""

from __future__ import annotations


class CommandError(Exception):
    """Something that the user of a command can put right; the message says how."""
