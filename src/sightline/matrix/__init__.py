"""The attention matrix, which is never stored: any part or readout of it is computed when asked for."""

from sightline.matrix.matrix import DENSE_LIMIT, AttentionMatrix, Readouts, TransposedMatrix

__all__ = ["DENSE_LIMIT", "AttentionMatrix", "Readouts", "TransposedMatrix"]
