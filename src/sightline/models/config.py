"""One configuration for every model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args, get_type_hints

from sightline.nn.feed_forward import Activation
from sightline.nn.norm import Norm

Head = Literal["none", "masked-token", "classification", "token-classification", "ctc"]
Positions = Literal["learned", "sinusoidal", "sinusoidal-halves", "rotary", "alibi", "relative", "none"]
Pooling = Literal["first", "mean"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """What a model is made of. The defaults are a small pre-norm Transformer that trains from scratch.

    Attributes:
        width: C, of the residual stream.
        heads: H, which divides C.
        layers: blocks of the encoder, or of a decoder alone.
        decoder_layers: blocks of an encoder-decoder's decoder. Default: as many as ``layers``.
        kv_heads: G, which divides H. Default: H.
        hidden: width of the feed-forward layers. Default: 4·C.
        vocabulary: V, how many token ids there are; for speech, the labels with the blank, which is 0.
        segments: kinds of segments (BERT's token types); 0 for none.
        head: what an encoder ends in. Default: "none", its hidden states.
        classes: K, of a classification head.
        pooling: what classification looks at: the "first" position, or the "mean" of all.
        pooler: whether a tanh layer comes before the classes, as in BERT.
        positions: "learned", "sinusoidal" ("sinusoidal-halves": sines before cosines, as in Marian),
            "rotary", "alibi", "relative" (T5's) or "none".
        max_positions: how many learned positions there are.
        window: how far a position sees; None for everything.
        activation, norm, norm_first, norm_eps, bias, dropout, attention_dropout: as for
            :class:`sightline.nn.TransformerBlock`; dropout is also that of the embedding.
        embedding_norm: whether the embedding ends in a norm.
        embedding_scale: whether token vectors are multiplied with √C.
        tied: whether the token vectors also make the logits.
        head_bias: whether logits of tokens have a bias.
        copying: whether an encoder-decoder may also copy tokens of the source, see
            :class:`sightline.models.copying.CopyHead`; what it gives are then ln p.
        pad: the id that fills up rows; never generated. None for none.
        start: the id that a generated sequence begins with.
        end: the id that ends it.
        image_size, patch_size, channels: of images; the size is that of both sides, in pixels.
        stem: how many convolutions halve an image before it is cut into patches; 0 for none.
        features: of a frame of speech: mel bins or cepstral coefficients.
        subsampling: frames of speech for each position: 1, 2 or 4.
        convolution: positions that a convolution behind each block of speech spans
            (:class:`sightline.nn.ConvolutionModule`); odd. None for no convolutions.

    Raises:
        ValueError: for an unknown choice, or sizes below 1; the layers check what fits together.
    """

    width: int = 256
    heads: int = 4
    layers: int = 4
    decoder_layers: int | None = None
    kv_heads: int | None = None
    hidden: int | None = None
    vocabulary: int = 0
    segments: int = 0
    head: Head = "none"
    classes: int = 0
    pooling: Pooling = "mean"
    pooler: bool = False
    positions: Positions = "learned"
    max_positions: int = 512
    window: int | None = None
    activation: Activation = "gelu"
    norm: Norm = "layer"
    norm_first: bool = True
    norm_eps: float = 1e-5
    bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_norm: bool = False
    embedding_scale: bool = False
    tied: bool = True
    head_bias: bool = False
    copying: bool = False
    pad: int | None = None
    start: int | None = None
    end: int | None = None
    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    stem: int = 0
    features: int = 80
    subsampling: int = 4
    convolution: int | None = None

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            known, given = get_args(hints[field.name]), getattr(self, field.name)
            if known and all(isinstance(one, str) for one in known) and given not in known:
                raise ValueError(f"{field.name}: there is no {given!r}; known: {', '.join(known)}.")
        for name in (
            "width",
            "heads",
            "layers",
            "max_positions",
            "image_size",
            "patch_size",
            "channels",
            "features",
        ):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name}: must be an integer of 1 or more, got {size!r}.")
        if not isinstance(self.stem, int) or self.stem < 0:
            raise ValueError(f"stem: must be an integer of 0 or more, got {self.stem!r}.")
        if self.head.endswith("classification") and self.classes < 1:
            raise ValueError(f"classes: a {self.head} head needs 1 or more, got {self.classes}.")
        for name in ("pad", "start", "end"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocabulary:
                raise ValueError(f"{name}: {token} does not lie in the vocabulary of {self.vocabulary} ids.")

    def to_dict(self) -> dict[str, Any]:
        """The configuration for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """The opposite of :meth:`to_dict`.

        Raises:
            ValueError: for names that are not known.
        """
        unknown = sorted(set(given) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"config: unknown {', '.join(unknown)}. Was it written by a newer version?")
        return cls(**given)
