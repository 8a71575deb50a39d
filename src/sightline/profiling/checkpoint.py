"""The file from which a profile continues: JSON, written whole or not at all, bound to its settings."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sightline.common.atomic import write_atomically
from sightline.common.errors import CommandError
from sightline.profiling.state import State

_FORMAT = "sightline profile checkpoint 1"
# Writing may take this share of the time, and happens at most once in this many seconds.
_SHARE = 0.02
_SECONDS = 5.0


class Checkpoint:
    """The checkpoint of one shard.

    Args:
        path: where the profile's checkpoint lies; a shard's file has its number appended.
        settings: what must be the same for the numbers to be the same.
        rank, world: which shard, of how many.
    """

    def __init__(self, path: Path, settings: dict[str, Any], rank: int = 0, world: int = 1) -> None:
        self._base, self._settings, self._world = path, settings, world
        self.path = path if world == 1 else path.with_name(f"{path.name}.{rank + 1}-of-{world}")
        self._due = time.monotonic() + _SECONDS

    def load(self) -> State | None:
        """The saved state; ``None`` if none was saved.

        Raises:
            CommandError: if it was saved under other settings, by another number of processes, or cannot be
                read; the message says what differs.
        """
        self._check_world()
        if not self.path.exists():
            return None
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            if saved["format"] != _FORMAT:
                raise ValueError("another format")
            differences = _differences(saved["settings"], self._settings)
            if not differences:
                return State.of_json(saved["state"])
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            kind = type(error).__name__
            raise CommandError(f"{self.path} cannot be read ({kind}); --restart starts over") from None
        raise CommandError(
            f"{self.path} was saved with other settings: {differences}. Use the same again, or --restart"
        )

    def _check_world(self) -> None:
        """Raises if another number of processes saved a checkpoint of this profile."""
        for other in self._all():
            count = int(other.name.rpartition("-of-")[2]) if other != self._base else 1
            if count != self._world:
                raise CommandError(
                    f"{other} comes from a run with {count} process(es), this one has {self._world}. "
                    "Use as many again, or --restart"
                )

    def _all(self) -> list[Path]:
        """The checkpoints of this profile, however many processes wrote them."""
        shards = self._base.parent.glob(f"{self._base.name}.*-of-*")
        numbered = [one for one in shards if one.name.rpartition("-of-")[2].isdecimal()]
        return [self._base] * self._base.exists() + sorted(numbered)

    def restart(self) -> None:
        """Deletes what this shard saved, and what runs with another number of processes saved."""
        for other in self._all():
            if other == self.path or (other == self._base) != (self._world == 1):
                other.unlink(missing_ok=True)

    def save(self, state: State) -> None:
        """Writes the state.

        Raises:
            CommandError: if it cannot be written; what was saved before is still there.
        """
        begin = time.monotonic()
        whole = {"format": _FORMAT, "settings": self._settings, "state": state.to_json()}
        write_atomically(self.path, [json.dumps(whole)])
        now = time.monotonic()
        self._due = now + max(_SECONDS, (now - begin) / _SHARE)

    def save_if_due(self, state: State) -> None:
        """Writes the state, unless it was written a few seconds ago."""
        if time.monotonic() >= self._due:
            self.save(state)

    def remove(self) -> None:
        """Deletes the file: the profile is done."""
        self.path.unlink(missing_ok=True)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {_shown(before.get(name))}, now {_shown(now.get(name))}" for name in names)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "not set"
