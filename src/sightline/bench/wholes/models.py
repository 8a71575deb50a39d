"""Whole models: those of Transformers from their configurations, and Sightline's own encoder-decoder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.bench.beside import torch_twin
from sightline.bench.wholes.case import Direction, Whole, WholeCase
from sightline.models import EncoderDecoder, EncoderDecoderConfig
from sightline.nn.acceleration import accelerate

# Few rows of an embedding are read, and there is no head over it: a small one will do.
_WORDS = {"vocab_size": 1000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # nosec B105


def model_case(
    title: str, build: Callable[..., Whole], dtype: str, direction: Direction = "forward", **sizes: Any
) -> WholeCase:
    """A case of a builder of this file; sizes are its arguments."""
    builder = f"{__name__}:{build.__name__}"
    return WholeCase(title, builder, dtype, direction, tuple(sizes.items()))


class _Hidden(nn.Module):
    """A model of Transformers as a function: tensors in, the last layer's states out."""

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, given: Tensor) -> Tensor:
        states: Tensor = self.model(given, **self.options).last_hidden_state
        return states


class _Logits(nn.Module):
    """A model with a head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> Tensor:
        found = self.model(*given)
        logits: Tensor = found if isinstance(found, Tensor) else found.logits
        return logits


class _NextToken(nn.Module):
    """A decoder's step: the token, then keys and values of each layer before it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, *cached: Tensor) -> Tensor:
        from transformers import DynamicCache

        cache: Any = DynamicCache(config=self.model.config)
        for layer, key, value in zip(cache.layers, cached[::2], cached[1::2], strict=True):
            layer.lazy_initialization(key, value)
            layer.keys, layer.values = key, value
        states: Tensor = self.model(token, past_key_values=cache, use_cache=True).last_hidden_state
        return states


def bert(batch: int, length: int, **sizes: Any) -> Whole:
    """BERT over texts without padding."""
    hf = _transformers()
    return _whole(
        _Hidden(hf.BertModel(hf.BertConfig(**sizes, **_WORDS), add_pooling_layer=False)), _text(batch, length)
    )


def modernbert(batch: int, length: int, **sizes: Any) -> Whole:
    """ModernBERT: every third layer sees everything, the others a window."""
    hf = _transformers()
    return _whole(_Hidden(hf.ModernBertModel(hf.ModernBertConfig(**sizes, **_WORDS))), _text(batch, length))


def vit(batch: int, **sizes: Any) -> Whole:
    """A vision Transformer over images."""
    hf = _transformers()
    config = hf.ViTConfig(**sizes)
    side = config.image_size
    images = torch.randn(batch, 3, side, side)
    return _whole(_Hidden(hf.ViTModel(config, add_pooling_layer=False)), images)


def whisper_encoder(batch: int, **sizes: Any) -> Whole:
    """Whisper's encoder over spectrograms."""
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    hf = _transformers()
    config = hf.WhisperConfig(**sizes)
    sound = torch.randn(batch, config.num_mel_bins, 2 * config.max_source_positions)
    return _whole(_Hidden(WhisperEncoder(config)), sound)


def llama_prefill(batch: int, length: int, **sizes: Any) -> Whole:
    """A Llama-like decoder over a prompt."""
    return _whole(_Hidden(_llama(sizes), use_cache=False), _text(batch, length))


def llama_decode(cached: int, **sizes: Any) -> Whole:
    """One step of it after so many tokens."""
    model = _llama(sizes)
    config = model.config
    shape = 1, config.num_key_value_heads, cached, config.hidden_size // config.num_attention_heads
    cache = [torch.randn(shape) for _ in range(2 * config.num_hidden_layers)]
    return _whole(_NextToken(model), torch.tensor([[5]]), *cache)


def bert_training(batch: int, length: int, **sizes: Any) -> Whole:
    """BERT that learns to tell two classes of texts apart, without dropout."""
    hf = _transformers()
    config = hf.BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    classes = torch.arange(batch) % 2
    whole = _whole(_Logits(hf.BertForSequenceClassification(config)), _text(batch, length))
    return Whole(
        whole.module, whole.arguments, whole.ours, whole.attention,
        loss=lambda logits: F.cross_entropy(logits, classes), compared=_matrices_and_vectors,
    )  # fmt: skip


def translation_training(batch: int, length: int, vocabulary: int, **sizes: Any) -> Whole:
    """Sightline's encoder-decoder, and the same of ``torch.nn``'s layers."""
    config = EncoderDecoderConfig(
        vocabulary=vocabulary, positions="sinusoidal", embedding_scale=True, start=1, end=2, **sizes
    )
    model = EncoderDecoder(config)
    source, target = _text(batch, length, vocabulary), _text(batch, length, vocabulary)
    return Whole(
        torch_twin(model), (source, model.shifted(target)), lambda module: _in_large_pages(model.train()),
        loss=lambda logits: F.cross_entropy(logits.flatten(0, 1), target.flatten()),
        compared=lambda module: [module.embedding.tokens.weight],  # type: ignore[union-attr, list-item]
    )  # fmt: skip


def _llama(sizes: dict[str, Any]) -> Any:
    hf = _transformers()
    return hf.LlamaModel(hf.LlamaConfig(**sizes, **_WORDS, max_position_embeddings=131072))


def _transformers() -> Any:
    hf: Any = importlib.import_module("transformers")
    hf.logging.set_verbosity_error()
    return hf


def _text(batch: int, length: int, vocabulary: int = 900) -> Tensor:
    return torch.randint(5, vocabulary, (batch, length))


def _whole(module: nn.Module, *arguments: Tensor) -> Whole:
    return Whole(module, arguments, _accelerated, _with_attention)


def _accelerated(module: nn.Module) -> nn.Module:
    found = accelerate(module, packed=True)
    if not found.linear or not found.attention:
        raise RuntimeError(f"accelerate() turned too little: {found}")
    return module


def _in_large_pages(model: nn.Module) -> nn.Module:
    """A model of ours, whose layers are what ``accelerate`` would make of them."""
    accelerate(model)
    return model


def _with_attention(module: nn.Module) -> nn.Module:
    from sightline.huggingface import register

    register()
    model: Any = module.model
    model.set_attn_implementation("sightline")
    return module


def _matrices_and_vectors(module: nn.Module) -> Sequence[Tensor]:
    """Without the largest: embeddings and feed-forward layers."""
    return [one for one in module.parameters() if one.numel() <= 1 << 20]
