"""Why a head looks where it does: its score, split into what each part of the model wrote.

``stream`` says which modules of a model write to its residual stream, ``recorder`` keeps what they wrote
while a trace is open, ``walk`` reads it back from a layer to the embedding, ``sides`` makes queries and keys
of that, ``sums`` multiplies them. ``asked`` is the question, ``answer`` and ``split`` what is given back.
``lens`` reads the stream as words.
"""

from __future__ import annotations

from sightline.attribution.answer import MeanWhy, Why
from sightline.attribution.lens.answer import LogitAttribution, LogitLens

__all__ = ["LogitAttribution", "LogitLens", "MeanWhy", "Why"]
