"""Where things are in a model of Transformers: its blocks, their projections, and its output matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_OUTPUTS = ("c_proj", "o_proj", "out_proj", "dense")  # what an attention module calls its output projection
_FEED_FORWARDS = ("mlp", "feed_forward", "ffn", "fc2")
_HEADS = ("cls", "lm_head")  # what a masked model calls all that comes behind its last block
_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier", "final_logit_softcapping")


def is_published(modules: Mapping[str, nn.Module]) -> bool:
    """Whether the modules are those of a model of Transformers."""
    model: Any = modules.get("")
    return (
        model is not None
        and hasattr(model, "config")
        and callable(getattr(model, "get_output_embeddings", None))
    )


def output_matrix(model: Any) -> Any:
    matrix = model.get_output_embeddings()
    if not isinstance(getattr(matrix, "weight", None), Tensor):
        raise ValueError(
            f"residual: {type(model).__name__} has no output matrix, so that its vectors cannot be read as "
            "words. Load it with a head: AutoModelForCausalLM, AutoModelForMaskedLM."
        )
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(not_understood(model, "the two streams of an encoder-decoder"))
    scales = [name for name in _SCALES if getattr(config, name, None) not in (None, 1, 1.0)]
    if scales:
        raise ValueError(not_understood(model, f"a logit that is changed at the end ({scales[0]})"))
    return matrix


def blocks_of(model: Any) -> tuple[nn.Module, list[nn.Module]]:
    """The blocks, and the module that holds them and its norm."""
    count = getattr(model.config, "num_hidden_layers", 0)
    for module in model.modules():
        for each in module.children():
            if isinstance(each, nn.ModuleList) and len(each) == count > 0:
                return module, list(each)
    raise ValueError(not_understood(model, "blocks that are found"))


def not_understood(model: Any, what: str) -> str:
    return (
        f"residual: {type(model).__name__}: {what} cannot be read here. Causal and masked models of "
        "Transformers can; sightline.models.from_huggingface(model) makes one of ours of bert, gpt2, bart "
        "and marian."
    )


def heads_of(model: Any) -> list[nn.Module]:
    return [head for name in _HEADS if isinstance(head := getattr(model, name, None), nn.Module)]


def is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith(("LayerNorm", "RMSNorm"))


def output_of(block: nn.Module) -> nn.Module | None:
    """The output projection of a block's self-attention."""
    outputs = [_output(block.get_submodule(name)) for name in attentions_of(block)]
    return outputs[0] if outputs else None


def attentions_of(block: nn.Module) -> list[str]:
    """The names of a block's modules of attention."""
    named = [name for name, child in block.named_children() if "attn" in name or "attention" in name]
    return [name for name in named if _output(block.get_submodule(name)) is not None]


def _output(attention: nn.Module) -> nn.Module | None:
    if is_norm(attention):
        return None
    found = (getattr(attention, name, None) for name in _OUTPUTS)
    return next((each for each in found if isinstance(each, nn.Module)), None)


def feed_forward_of(block: nn.Module) -> nn.Module | None:
    found = [getattr(block, each, None) for each in _FEED_FORWARDS]
    return next((each for each in found if isinstance(each, nn.Module)), None)
