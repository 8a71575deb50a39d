"""The names of the stages of attention: in formulas, code, kernels, profiles, pages and docs alike.

``scores`` = q·k → ``scaled`` (times the scale) → ``capped`` (softcap · tanh(x / softcap), if any) →
``biased`` (plus the bias, if any) → ``masked`` (-inf where a query may not look) → ``weights`` = softmax of a
row → ``context`` = weights · value.
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["scores", "scaled", "capped", "biased", "masked", "weights", "context"]

#: Every stage, in order.
STAGES: tuple[Stage, ...] = ("scores", "scaled", "capped", "biased", "masked", "weights", "context")
#: Those before the softmax, [B,H,N,M] and natural logarithms.
LOGITS = STAGES[:5]
