"""The speech encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.common.check import check_tensor, integers_tensor
from sightline.matrix import AttentionMatrix
from sightline.models.config import ClassifierConfig
from sightline.models.heads import ClassificationHead, PositionHead
from sightline.models.initialise import initialise
from sightline.models.model import Model
from sightline.models.padding import as_lengths, inside, padding_mask, without_padding
from sightline.models.stacks import encoder_stack, input_positions
from sightline.nn.convolution import ConvolutionModule
from sightline.nn.given import check_weight

_STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}  # of the two convolutions


@dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig(ClassifierConfig):
    """What a :class:`SpeechEncoder` is made of: the settings of :class:`TransformerConfig`, and its own.

    Args:
        features: F, of a frame: mel bins or cepstral coefficients. Default: 80.
        subsampling: frames for each position: 1, 2 or 4. Default: 4.
        convolution: positions that a convolution after each block spans
            (:class:`sightline.nn.ConvolutionModule`); odd. Default: no convolutions.
        max_positions: how many learned positions there are. Default: 512.
        head: "ctc", "classification", or "none" for hidden states, which is the default.
        vocabulary: V, the labels of "ctc" with the blank, which is 0.
        classes: K, of a classification head.
        pooling: what classification looks at: the "first" position, or the "mean" of all. Default: "mean".
        pooler: whether a tanh layer comes before the classes. Default: False.

    Raises:
        ValueError: for an unknown choice, sizes below 1, or a classification head without classes.

    Example:
        >>> from sightline.models import SpeechEncoderConfig
        >>> config = SpeechEncoderConfig(width=32, features=40, vocabulary=30, head="ctc", subsampling=2)
        >>> config.features, config.convolution
        (40, None)
    """

    features: int = 80
    subsampling: int = 4
    convolution: int | None = None
    max_positions: int = 512
    head: Literal["none", "ctc", "classification"] = "none"
    vocabulary: int = 0


class SpeechEncoder(Model):
    """Frames of speech that all see each other: subsampling → blocks → head.

    Two convolutions of width 3 and stride 2 turn T frames into ⌈T/4⌉ positions; with ``subsampling`` 2 the
    second one has stride 1, with 1 both. "ctc" gives logits of labels [B,⌈T/4⌉,V], label 0 being the blank;
    "classification" one class for the recording [B,K]; "none" hidden states. With ``convolution`` each
    block is followed by a :class:`sightline.nn.ConvolutionModule`, as in the Conformer.

    Args:
        config: the configuration; "ctc" needs a ``vocabulary``.

    Raises:
        ValueError: for a configuration that does not fit.

    Sources: Graves et al. 2006, "Connectionist temporal classification"; Dong et al. 2018,
    "Speech-Transformer"; Gulati et al. 2020, "Conformer".

    Example:
        >>> import torch
        >>> from sightline.models import SpeechEncoder, SpeechEncoderConfig
        >>> config = SpeechEncoderConfig(
        ...     width=32, layers=2, features=40, vocabulary=30, head="ctc", positions="sinusoidal"
        ... )
        >>> model = SpeechEncoder(config)
        >>> model(torch.randn(2, 101, 40), lengths=[101, 60]).shape, model.output_lengths([101, 60]).tolist()
        (torch.Size([2, 26, 30]), [26, 15])
    """

    config_class = SpeechEncoderConfig
    config: SpeechEncoderConfig

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__(config)
        if config.head == "ctc" and config.vocabulary < 2:
            raise ValueError(f"vocabulary: a ctc head needs the blank and a label, got {config.vocabulary}.")
        if config.subsampling not in _STRIDES:
            raise ValueError(f"subsampling: 1, 2 or 4 frames for a position, got {config.subsampling}.")
        self.strides = _STRIDES[config.subsampling]
        self.subsampling = nn.ModuleList(
            nn.Conv1d(before, config.width, 3, stride=stride, padding=1)
            for before, stride in zip((config.features, config.width), self.strides, strict=True)
        )
        self.positions = input_positions(config, config.max_positions)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = encoder_stack(config)
        self.head: nn.Module | None = None
        if config.head == "ctc":
            self.head = PositionHead(config.width, config.vocabulary, dropout=config.dropout)
        elif config.head == "classification":
            self.head = ClassificationHead(config)
        initialise(self)
        # After it: they start with PyTorch's own, larger weights.
        self.convolutions = nn.ModuleList()
        if config.convolution is not None:
            for _ in range(config.layers):
                layer = ConvolutionModule(config.width, config.convolution, dropout=config.dropout)
                self.convolutions.append(layer)

    def forward(
        self,
        frames: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrices: bool = False,
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """frames [B,T,F] (log-mel or MFCC, normalised) → logits, or hidden states [B,⌈T/4⌉,C].

        Args:
            frames: [B,T,F], padded on the right.
            lengths: [B], how many frames count. Default: all.
            return_matrices: whether to return the attention matrices as well.

        Raises:
            ValueError: for frames of another width, or lengths that do not fit; TypeError: for what is no
                floating tensor.
        """
        check_tensor("frames", frames, "[B,T,F]")
        if frames.shape[2] != self.config.features:
            raise ValueError(
                f"frames: expected [B,T,F] with F={self.config.features} features, got {list(frames.shape)}."
            )
        check_weight("frames", frames, next(self.subsampling.parameters()))
        x, own = self._subsampled(frames, as_lengths("lengths", lengths, frames))
        if self.positions is not None:
            x = self.positions(x)
        output = self.encoder(
            self.dropout(x),
            mask=padding_mask(own),
            return_matrices=return_matrices,
            behind=[partial(layer, own=inside(x, own)) for layer in self.convolutions],
        )
        if not return_matrices:
            return self._logits(output, own)
        states, matrices = output
        return self._logits(states, own), matrices

    def _logits(self, states: Tensor, lengths: Tensor | None) -> Tensor:
        """Hidden states [B,N,C] → what the head makes of them; without one they themselves."""
        if self.head is None:
            return states
        pooled = isinstance(self.head, ClassificationHead)
        logits: Tensor = self.head(states, lengths) if pooled else self.head(states)
        return logits

    def output_lengths(self, lengths: Tensor | Sequence[int]) -> Tensor:
        """How many positions of the output count, [B], for ``torch.nn.functional.ctc_loss``.

        Raises:
            TypeError: for lengths that are no integers.
        """
        left = integers_tensor("lengths", lengths)
        if left.dim() != 1:
            raise ValueError(f"lengths: expected [B] integers, got shape {list(left.shape)}.")
        for stride in self.strides:
            left = (left + stride - 1) // stride
        return left

    def _subsampled(self, frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = frames
        for convolution, stride in zip(self.subsampling, self.strides, strict=True):
            # Padding must be 0 to the convolution, as it is past the end of a recording on its own.
            x = F.gelu(convolution(without_padding(x, lengths).transpose(1, 2))).transpose(1, 2)
            lengths = None if lengths is None else (lengths + stride - 1) // stride
        return x, lengths
