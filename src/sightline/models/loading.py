"""Models of whichever class, from a folder or from Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.models.model import Model


def from_pretrained(folder: str | Path, **changes: Any) -> Model:
    """The model in a folder, of whichever class it is, in eval mode.

    Args:
        folder: what :meth:`Model.save_pretrained` wrote.
        **changes: of the configuration: ``dropout=0.1``, or ``head="classification", classes=3`` for a new
            head on the same body.

    Raises:
        CheckpointError: for a folder that holds no model, or only half of one. Nothing in it is executed, and
            no pickle is opened.
        ValueError: for changes that the model's configuration does not take.

    Example:
        >>> import pathlib, tempfile
        >>> from sightline.models import Encoder, EncoderConfig, from_pretrained
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "model"
        >>> Encoder(EncoderConfig(width=8, heads=2, layers=1, vocabulary=5)).save_pretrained(folder)
        >>> type(from_pretrained(folder)).__name__
        'Encoder'
    """
    return Model.from_pretrained(folder, **changes)


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
    return Model.from_huggingface(source, **changes)
