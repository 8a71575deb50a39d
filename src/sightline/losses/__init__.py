"""Losses and training aids made of the attention matrix: exact, and linear in memory at any length.

:func:`watch` gives the matrices of a model as its forward pass runs; the losses are functions of them:
:func:`entropy`, :func:`sink_mass`, :func:`alignment`, and for a teacher and a student :func:`divergence`,
:func:`minilm`, :func:`minilmv2` and :func:`tinybert`. After an optimizer's step
:class:`QKClip` limits logits.
"""

from __future__ import annotations

from sightline.losses.calls import WatchedCall, watch
from sightline.losses.clip import Clipped, QKClip
from sightline.losses.concentration import entropy
from sightline.losses.first_keys import sink_mass
from sightline.losses.pairs import alignment
from sightline.losses.relations import relation
from sightline.losses.transfer import divergence, minilm, minilmv2, tinybert

__all__ = [
    "Clipped",
    "QKClip",
    "WatchedCall",
    "alignment",
    "divergence",
    "entropy",
    "minilm",
    "minilmv2",
    "relation",
    "sink_mass",
    "tinybert",
    "watch",
]
