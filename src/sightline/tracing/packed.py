"""Decoding with grouped heads as Transformers does it under "sdpa": the heads of a group stand as queries.

For one new token it passes [B,H,1,D] queries as [B,G,H/G,D], so that keys need not be repeated. What is
caught then looks like H/G queries of G heads; here they become heads again.
"""

from __future__ import annotations

from torch import Tensor, nn

from sightline.tracing.found import Found


def unpack(found: Found, module: nn.Module | None) -> None:
    """Makes heads of queries, in place, where the module says that it has as many."""
    groups = getattr(module, "num_key_value_groups", 1)
    config = getattr(module, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    b, g, n, _ = found.query.shape
    packed = isinstance(groups, int) and n == groups > 1 and g * n == heads and found.key.shape[1] == g
    if not packed or found.causal or found.problem is not None or found.context is None:
        return

    def apart(tensor: Tensor) -> Tensor:
        return tensor.reshape(tensor.shape[0], g * n, 1, tensor.shape[3])

    found.query, found.context = apart(found.query), apart(found.context)
    for masks in (found.added, found.visible, found.hidden):
        masks[:] = [apart(m.expand(-1, g, n, -1)) if m.shape[2] == n else m for m in masks]
    if found.output is not None:
        output, view = found.output
        found.output = (output, lambda gradient: apart(view(gradient)))
