"""Tiny models, as those of interventions: one thread, a fixed seed."""

from interventions.conftest import seeded_and_alone

__all__ = ["seeded_and_alone"]
