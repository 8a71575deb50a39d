"""``sightline info``: what is installed and what runs here."""

from __future__ import annotations


def info() -> None:
    """Show versions, the native levels of this machine, and which one is active."""
    from sightline.call.info import info as gather

    facts = gather()
    width = max(map(len, facts), default=0)
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")
