"""Decoding with grouped heads as Transformers does it under "sdpa": the heads of a group stand as queries.

For one new token it passes [B,H,1,D] queries as [B,G,H/G,D], so that keys need not be repeated. What is
caught then looks like H/G queries of G heads; here they become heads again.
"""

from __future__ import annotations

from torch import Tensor, nn

from sightline.tracing.caught import CaughtCall


def unpack(caught: CaughtCall, module: nn.Module | None) -> None:
    """Makes heads of queries, in place, where the module says that it has as many."""
    groups = getattr(module, "num_key_value_groups", 1)
    config = getattr(module, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    b, g, n, _ = caught.query.shape
    packed = isinstance(groups, int) and n == groups > 1 and g * n == heads and caught.key.shape[1] == g
    if not packed or caught.causal or caught.problem is not None or caught.context is None:
        return

    def apart(tensor: Tensor) -> Tensor:
        return tensor.reshape(tensor.shape[0], g * n, 1, tensor.shape[3])

    caught.query, caught.context = apart(caught.query), apart(caught.context)
    for masks in (caught.added, caught.visible, caught.hidden):
        masks[:] = [apart(m.expand(-1, g, n, -1)) if m.shape[2] == n else m for m in masks]
    if caught.output is not None:
        output, view = caught.output
        caught.output = (output, lambda gradient: apart(view(gradient)))
