"""The weights that training starts from."""

from __future__ import annotations

import math

from torch import nn

from sightline.nn.transformer_block import TransformerBlock

_STD = 0.02


def initialise(model: nn.Module, std: float = _STD) -> None:
    """Projections and embeddings N(0, std²), biases 0; what joins the residual stream is scaled by depth.

    Of L blocks each adds two or three terms to the stream, n in all: their last projections start with a
    deviation of std/√n, so that the stream does not grow with depth. ``std`` is 0.02 by default.

    Sources: Devlin et al. 2019, "BERT"; Radford et al. 2019, "Language models are unsupervised multitask
    learners".
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv2d)):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for stack in model.modules():
        blocks = [child for child in stack.children() if isinstance(child, TransformerBlock)]
        last = [
            layer.output
            for block in blocks
            for layer in (block.self_attention, block.cross_attention, block.feed_forward)
            if layer is not None
        ]
        for projection in last:
            nn.init.normal_(projection.weight, std=std / math.sqrt(len(last)))
