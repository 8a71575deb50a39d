"""What the configurations of all models share; each model's own stands beside the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_type_hints

from sightline.common.check import kind
from sightline.models.checked import checked
from sightline.models.former_fields import FORMER_FIELDS
from sightline.nn.feed_forward import Activation
from sightline.nn.norm import Norm

Positions = Literal["learned", "sinusoidal", "sinusoidal-halves", "rotary", "alibi", "relative", "none"]
Pooling = Literal["first", "mean"]

_OF_THE_HEAD = ("head", "classes", "pooling", "pooler")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """What every model is made of; the defaults are a small pre-norm Transformer that trains from scratch.

    It is the base of each model's own configuration and is not made by itself.

    Args:
        width: C, of the residual stream. Default: 256.
        heads: H, which divides C. Default: 4.
        layers: blocks of the encoder, or of a decoder alone. Default: 4.
        kv_heads: G, which divides H. Default: H.
        hidden: width of the feed-forward layers. Default: 4·C.
        positions: "learned", "sinusoidal" ("sinusoidal-halves": sines before cosines, as in Marian),
            "rotary", "alibi", "relative" (T5's) or "none". Default: "learned".
        rotary_share: share of each head's pairs of features that rotary positions turn, see
            :class:`sightline.nn.Rotary`. Default: 1, all of them.
        window: how far a position sees. Default: without limit.
        global_every: with a window, every so many blocks one sees without limit. Default: none does.
        activation, norm, norm_first, norm_eps, bias, dropout, attention_dropout: as for
            :class:`sightline.nn.TransformerBlock`; dropout is also that of the embedding.

    Raises:
        TypeError: when it is made by itself, for a setting that the model does not have, or of another kind.
        ValueError: for an unknown choice, or sizes below 1; the layers check what fits together.

    Example:
        >>> from sightline.models import DecoderConfig, TransformerConfig
        >>> config = DecoderConfig(width=32, layers=2, vocabulary=50)
        >>> isinstance(config, TransformerConfig), config.heads, config.positions
        (True, 4, 'learned')
    """

    width: int = 256
    heads: int = 4
    layers: int = 4
    kv_heads: int | None = None
    hidden: int | None = None
    positions: Positions = "learned"
    rotary_share: float = 1.0
    window: int | None = None
    global_every: int | None = None
    activation: Activation = "gelu"
    norm: Norm = "layer"
    norm_first: bool = True
    norm_eps: float = 1e-5
    bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Raises for the base itself."""
        if cls is TransformerConfig:
            raise TypeError(
                "TransformerConfig: holds what all models share, and is not made by itself. Give the same "
                "names to the model's own: EncoderConfig, DecoderConfig, EncoderDecoderConfig, "
                "VisionEncoderConfig or SpeechEncoderConfig."
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = checked(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)

    def to_dict(self) -> dict[str, Any]:
        """The configuration for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """The opposite of :meth:`to_dict`.

        Settings of other models are accepted while they have their defaults: models were once saved with the
        settings of all.

        Raises:
            ValueError: for unknown names, and settings of other models that differ from their defaults.
        """
        kind("config", given, dict, "a dict of settings")
        own = {field.name for field in fields(cls)}
        unknown = sorted(given.keys() - own - FORMER_FIELDS.keys())
        if unknown:
            raise ValueError(f"config: unknown {', '.join(unknown)}. Was it written by a newer version?")
        for name in given.keys() - own:
            if given[name] != FORMER_FIELDS[name]:
                raise ValueError(
                    f"{name}: {given[name]!r} belongs to another model; {cls.__name__} has no {name}. "
                    "Leave it out."
                )
        return cls(**{name: value for name, value in given.items() if name in own})

    def same_head(self, other: TransformerConfig) -> bool:
        """Whether both describe one head, so that its weights fit."""
        return all(getattr(self, name, None) == getattr(other, name, None) for name in _OF_THE_HEAD)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TransformerConfig):
    """The configuration of a model that may end in one class for each input.

    Args:
        classes: K, of a classification head.
        pooling: what classification looks at: the "first" position, or the "mean" of all.
        pooler: whether a tanh layer comes before the classes, as in BERT.
    """

    classes: int = 0
    pooling: Pooling = "mean"
    pooler: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        head: str = getattr(self, "head", "none")
        if head.endswith("classification") and self.classes < 1:
            raise ValueError(f"classes: a {head} head needs 1 or more, got {self.classes}.")


@dataclass(frozen=True, kw_only=True)
class TextConfig(TransformerConfig):
    """The configuration of a model that takes token ids.

    Args:
        vocabulary: V, how many token ids there are.
        max_positions: how many learned positions there are.
        embedding_norm: whether the embedding ends in a norm.
        embedding_scale: whether token vectors are multiplied by √C.
        tied: whether the token vectors also make the logits.
        pad: the padding id; never generated. None for none.
    """

    vocabulary: int = 0
    max_positions: int = 512
    embedding_norm: bool = False
    embedding_scale: bool = False
    tied: bool = True
    pad: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_tokens("pad")

    @property
    def room(self) -> int | None:
        """Positions at most; None for no limit."""
        return self.max_positions if self.positions == "learned" else None

    def _check_tokens(self, *names: str) -> None:
        for name in names:
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocabulary:
                raise ValueError(f"{name}: {token} does not lie in the vocabulary of {self.vocabulary} ids.")


@dataclass(frozen=True, kw_only=True)
class GenerativeConfig(TextConfig):
    """The configuration of a model that writes.

    Args:
        head_bias: whether logits of tokens have a bias.
        start: the id that a generated sequence begins with. None for none.
        end: the id that ends it. None for none.
    """

    head_bias: bool = False
    start: int | None = None
    end: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_tokens("start", "end")
