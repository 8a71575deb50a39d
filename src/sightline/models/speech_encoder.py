"""The speech encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.config import TransformerConfig
from sightline.models.heads import ClassificationHead, PositionHead
from sightline.models.initialise import initialise
from sightline.models.model import Model, as_lengths, padding_mask
from sightline.models.stacks import encoder_stack, input_positions
from sightline.nn.convolution import ConvolutionModule
from sightline.nn.dropout import Dropout

_STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}  # of the two convolutions


class SpeechEncoder(Model):
    """Frames of speech that all see each other: subsampling → blocks → head.

    Two convolutions of width 3 and stride 2 turn T frames into ⌈T/4⌉ positions; with ``subsampling`` 2 the
    second one has stride 1, with 1 both. "ctc" gives logits of labels [B,⌈T/4⌉,V], label 0 being the blank;
    "classification" one class for the recording [B,K]; "none" hidden states. With ``convolution`` each
    block is followed by a :class:`sightline.nn.ConvolutionModule`, as in the Conformer.

    Args:
        config: the configuration; ``features``, ``subsampling`` and ``convolution`` count here, and
            ``vocabulary`` for "ctc".

    Raises:
        ValueError: for a configuration that does not fit.

    Sources: Graves et al. 2006, "Connectionist temporal classification"; Dong et al. 2018,
    "Speech-Transformer"; Gulati et al. 2020, "Conformer".

    Example:
        >>> import torch
        >>> from sightline.models import SpeechEncoder, TransformerConfig
        >>> config = TransformerConfig(
        ...     width=32, layers=2, features=40, vocabulary=30, head="ctc", positions="sinusoidal"
        ... )
        >>> model = SpeechEncoder(config)
        >>> model(torch.randn(2, 101, 40), lengths=[101, 60]).shape, model.output_lengths([101, 60]).tolist()
        (torch.Size([2, 26, 30]), [26, 15])
    """

    heads_known = ("none", "ctc", "classification")

    def __init__(self, config: TransformerConfig) -> None:
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
        self.positions = input_positions(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = encoder_stack(config)
        self.head: nn.Module | None = None
        if config.head == "ctc":
            self.head = PositionHead(config, config.vocabulary)
        elif config.head == "classification":
            self.head = ClassificationHead(config)
        initialise(self)
        # Behind it: they start with PyTorch's own, larger weights.
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
    ) -> Any:
        """frames [B,T,F] (log-mel or MFCC, normalised) → logits, or hidden states [B,⌈T/4⌉,C].

        Args:
            frames: [B,T,F], padded on the right.
            lengths: [B], how many frames count. Default: all.
            return_matrices: whether to return the attention matrices as well.

        Raises:
            ValueError: for frames of another width.
        """
        if frames.dim() != 3 or frames.shape[2] != self.config.features:
            raise ValueError(
                f"frames: expected [B,T,F] with F={self.config.features} features, got {list(frames.shape)}."
            )
        x, own = self._subsampled(frames, as_lengths("lengths", lengths, frames.device))
        if self.positions is not None:
            x = self.positions(x)
        found = self.encoder(
            self.dropout(x),
            mask=padding_mask(own),
            return_matrices=return_matrices,
            behind=[partial(layer, own=_inside(x, own)) for layer in self.convolutions],
        )
        x, matrices = found if return_matrices else (found, None)
        if isinstance(self.head, ClassificationHead):
            x = self.head(x, own)
        elif self.head is not None:
            x = self.head(x)
        return (x, matrices) if return_matrices else x

    def output_lengths(self, lengths: Tensor | Sequence[int]) -> Tensor:
        """How many positions of the output count, [B], for ``torch.nn.functional.ctc_loss``."""
        found = torch.as_tensor(lengths)
        for stride in self.strides:
            found = (found + stride - 1) // stride
        return found

    def _subsampled(self, frames: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = frames
        for convolution, stride in zip(self.subsampling, self.strides, strict=True):
            # Padding must be 0 to the convolution, as it is behind the end of a recording on its own.
            x = F.gelu(convolution(_without_padding(x, lengths).transpose(1, 2))).transpose(1, 2)
            lengths = None if lengths is None else (lengths + stride - 1) // stride
        return x, lengths


def _without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    own = _inside(x, lengths)
    return x if own is None else x.masked_fill(~own[..., None], 0)


def _inside(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """[B,N], True where a position of x [B,N,C] is not padding."""
    return None if lengths is None else torch.arange(x.shape[1], device=x.device) < lengths[:, None]
