"""From vectors to words: the residual stream read out through the output matrix, and what brought a word.

``stream`` is what can be read: the stream of positions after each layer, the words that a vector means, and
who brought a word. ``own`` is that of models of :mod:`sightline.models`. Of models of Transformers ``found``
says where things are, ``published`` records, and ``published_stream`` reads. ``reader`` reads many positions
at once, ``asked`` is the question, ``answer`` what is given back.
"""

from __future__ import annotations

from sightline.attribution.lens.answer import LogitAttribution, LogitLens

__all__ = ["LogitAttribution", "LogitLens"]
