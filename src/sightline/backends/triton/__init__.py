"""The readouts on a GPU, in Triton: each recomputes scores from query, key and lse, tile by tile."""

from __future__ import annotations

from sightline.backends.triton.wing import Triton as Triton

__all__ = ["Triton"]
