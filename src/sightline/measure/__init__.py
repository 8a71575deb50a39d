"""What heads do: entropy, sinks, patterns, relevance; functions of :class:`sightline.AttentionMatrix` only.

Every measure is exact, takes memory linear in the lengths, and never holds an N x M matrix. Shapes: B batch,
H heads, N queries, M keys, T targets; ``[B,H]`` is one number per head, ``per_query=True`` gives ``[B,H,N]``.
Where a function takes layers, any sequence of matrices will do: a trace, or ``outputs.attentions``.

:func:`all` lists the measures with formula, unit, range, source and caveat. Attention weights are not by
themselves explanations (Jain & Wallace 2019; Wiegreffe & Pinter 2019).
"""

from __future__ import annotations

from sightline.measure.catalogue import Measure, about, all
from sightline.measure.comparison import (
    Comparison,
    compare,
    entropy_difference,
    jensen_shannon,
    topk_overlap,
    total_variation,
)
from sightline.measure.concentration import entropy, entropy_collapse
from sightline.measure.diagonal import diagonality, local_mass
from sightline.measure.distances import attention_distance, grid_distance
from sightline.measure.encoder_decoder import EncoderDecoderRelevance, encoder_decoder_relevance
from sightline.measure.frames import WordTime, frame_alignment, word_times
from sightline.measure.graded import Layer
from sightline.measure.gradients import relevance
from sightline.measure.labels import HeadLabel, Thresholds, head_labels
from sightline.measure.logits import max_logit
from sightline.measure.needle import retrieval
from sightline.measure.norms import WeightedNorms, weighted_norms
from sightline.measure.offsets import next_token, offset_score, previous_token
from sightline.measure.reception import received
from sightline.measure.repeats import duplicate_token, induction
from sightline.measure.rolling import rollout
from sightline.measure.similarity import head_divergence, head_similarity
from sightline.measure.sinks import learned_sink_mass, sink_mass, sink_rate
from sightline.measure.subject import UnverifiedError
from sightline.measure.warping import Path, dtw
from sightline.measure.words import Pair, merge_words, word_alignment

__all__ = [
    "Comparison",
    "EncoderDecoderRelevance",
    "HeadLabel",
    "Layer",
    "Measure",
    "Pair",
    "Path",
    "Thresholds",
    "UnverifiedError",
    "WeightedNorms",
    "WordTime",
    "about",
    "all",
    "attention_distance",
    "compare",
    "diagonality",
    "dtw",
    "duplicate_token",
    "encoder_decoder_relevance",
    "entropy",
    "entropy_collapse",
    "entropy_difference",
    "frame_alignment",
    "grid_distance",
    "head_divergence",
    "head_labels",
    "head_similarity",
    "induction",
    "jensen_shannon",
    "learned_sink_mass",
    "local_mass",
    "max_logit",
    "merge_words",
    "next_token",
    "offset_score",
    "previous_token",
    "received",
    "relevance",
    "retrieval",
    "rollout",
    "sink_mass",
    "sink_rate",
    "topk_overlap",
    "total_variation",
    "weighted_norms",
    "word_alignment",
    "word_times",
]
