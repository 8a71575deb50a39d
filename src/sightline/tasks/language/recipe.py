"""Settings of a run on a text that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.common.errors import CommandError
from sightline.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe(Recipe):
    """Settings of every run, and of one on a text that goes on.

    Attributes:
        window: keys that a token sees, itself included; 0 for as many as the context, -1 for all before it.
        global_every: every so many blocks one sees all before it, whatever the window; 0 for none.
        rotary_share: share of each head's pairs of features that rotary positions turn.
        shortest: tokens of the shortest windows in training: each is the context, or its half, its quarter
            and so on down to this, drawn anew each time; 0 for the context.
        fill: tokens of one example at least: as many short windows as make up so many; 0 for the context.
        repeats: share of the windows in which passages come again and again, further on.
    """

    window: int = 0
    global_every: int = 0
    rotary_share: float = 1.0
    shortest: int = 0
    fill: int = 0
    repeats: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(-1, "window")
        self.check_least(0, "shortest", "fill", "global_every", "rotary_share")
        if self.rotary_share > 1:
            raise CommandError(f"rotary_share: from 0 to 1, got {self.rotary_share}")
        self.check_share("repeats")
        if self.window < 0 and self.global_every:
            raise CommandError(
                f"global_every: {self.global_every}, but window={self.window} lets every block see all "
                f"before it"
            )
        for name in ("shortest", "fill"):
            given = getattr(self, name)
            if given and self.context not in (given << halved for halved in range(32)):
                raise CommandError(
                    f"{name}: the context of {self.context}, or its half, its quarter and so on; got {given}"
                )

    @property
    def unlimited(self) -> bool:
        """Whether some block sees all before it, so that a text must fit the context."""
        return self.window < 0 or bool(self.global_every)
