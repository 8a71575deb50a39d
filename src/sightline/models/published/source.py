"""Finding the published model, and who knows its family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.common.pretrained import load_pretrained, quiet
from sightline.models.config import TransformerConfig
from sightline.models.decoder import Decoder
from sightline.models.encoder import Encoder
from sightline.models.encoder_decoder import EncoderDecoder
from sightline.models.model import Model
from sightline.models.published import bart, bert, gpt2, vit
from sightline.models.published.weights import Weights
from sightline.models.vision_encoder import VisionEncoder

_Family = tuple[
    type[Model],
    Callable[[Any, str], dict[str, Any]],  # their configuration and architecture → ours
    Callable[[Weights, Any, Any, str], None],  # carries the weights over
]

FAMILIES: dict[str, _Family] = {
    "bert": (Encoder, bert.config, bert.carry),
    "gpt2": (Decoder, gpt2.config, gpt2.carry),
    "bart": (EncoderDecoder, bart.config, bart.carry),
    "marian": (EncoderDecoder, bart.config, bart.carry),
    "vit": (VisionEncoder, vit.config, vit.carry),
}
_OF_THE_HEAD = {"head", "classes", "pooling", "pooler"}


def from_huggingface(source: Any, **changes: Any) -> Model:
    """A published BERT, GPT-2, BART, Marian or ViT as one of our models, with equal logits, in eval mode.

    Heads come along: BERT's masked-token, classification and token-classification, ViT's classification.
    BERT's pooler is part of its classification head, and left out where there is none.

    Args:
        source: a model of Transformers, a local folder, or a name on the hub. Folders never touch the
            network, no code of a model is executed, and no pickle is read.
        **changes: of the configuration: ``dropout=0.1``, or ``head="classification", classes=3`` for a new
            head on the same body.

    Raises:
        ValueError: for a family or a setting that is not known, or weights that do not fit.

    Example:
        >>> import torch, transformers
        >>> from sightline.models import from_huggingface
        >>> theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        ...     n_layer=2, n_head=4, n_embd=32, vocab_size=50, bos_token_id=1, eos_token_id=2)).eval()
        >>> model, ids = from_huggingface(theirs), torch.randint(50, (1, 7))
        >>> type(model).__name__, torch.allclose(model(ids), theirs(ids).logits, atol=1e-4)
        ('Decoder', True)
    """
    theirs = _opened(source) if isinstance(source, (str, Path)) else source
    their_config = getattr(theirs, "config", None)
    family = FAMILIES.get(getattr(their_config, "model_type", ""))
    if family is None:
        kind = getattr(their_config, "model_type", type(theirs).__name__)
        raise ValueError(f"source: {kind!r} is of no known family; known: {', '.join(FAMILIES)}.")
    kind, translate, carry = family
    architecture = type(theirs).__name__
    described = translate(their_config, architecture)
    config = TransformerConfig(**{**described, **changes})
    model = kind(config)
    weights = Weights(theirs.state_dict(), model)
    new_head = any(
        described.get(name, changes[name]) != changes[name] for name in _OF_THE_HEAD & set(changes)
    )
    new_head |= "head" in changes and changes["head"] != described.get("head", "none")
    carry(weights, model, theirs, "none" if new_head else config.head)
    weights.finish(("head.",) if new_head else ())
    return model.eval()


def _opened(source: str | Path) -> Any:
    """The model of Transformers, with the architecture that its configuration names."""
    import transformers

    folder = Path(source).expanduser()
    local = folder.is_dir()
    where = str(folder) if local else str(source)
    with quiet():
        config = load_pretrained(transformers.AutoConfig, where, local)
        names = getattr(config, "architectures", None) or ["AutoModel"]
        kind = getattr(transformers, names[0], transformers.AutoModel)
        return load_pretrained(kind, where, local, use_safetensors=True).eval()
