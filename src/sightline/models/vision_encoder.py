"""The vision Transformer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sightline.common.check import check_tensor
from sightline.matrix import AttentionMatrix
from sightline.models.config import ClassifierConfig
from sightline.models.heads import ClassificationHead
from sightline.models.initialise import initialise
from sightline.models.model import Model
from sightline.models.stacks import encoder_stack, input_positions
from sightline.nn.given import check_weight
from sightline.nn.positions import LearnedPositions

_STD = 0.5  # of what enters the first block, of each kind, given pixels of deviation 1


@dataclass(frozen=True, kw_only=True)
class VisionEncoderConfig(ClassifierConfig):
    """What a :class:`VisionEncoder` is made of: the settings of :class:`TransformerConfig`, and its own.

    Args:
        image_size: pixels of either side. Default: 224.
        patch_size: pixels of either side of a patch. Default: 16.
        channels: of an image. Default: 3.
        stem: how many convolutions halve an image before it is cut into patches. Default: 0.
        head: "classification", or "none" for hidden states, which is the default.
        classes: K, of a classification head.
        pooling: what classification looks at: the "first" vector, or the "mean" of all. Default: "mean".
        pooler: whether a tanh layer comes before the classes. Default: False.

    Raises:
        ValueError: for an unknown choice, sizes below 1, or a classification head without classes.

    Example:
        >>> from sightline.models import VisionEncoderConfig
        >>> config = VisionEncoderConfig(width=32, image_size=16, patch_size=4, channels=1)
        >>> config.patches
        16
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    stem: int = 0
    head: Literal["none", "classification"] = "none"

    @property
    def patches(self) -> int:
        """P, how many patches an image has."""
        return (self.image_size // self.patch_size) ** 2


class VisionEncoder(Model):
    """An image cut into patches that all see each other: patches → blocks → head.

    A trained vector comes first, which the head looks at where ``pooling`` is "first"; position 1 + r·w + c
    is the patch in row r and column c of w. The head gives logits of classes [B,K], "none" hidden states.

    With a ``stem`` of n, n convolutions of 3×3 pixels and stride 2, each with a ReLU, come first: of
    C/2^(n−1), ..., C/2, C channels. A patch still stands for ``patch_size`` pixels, and knows some of those
    around it.

    Args:
        config: the configuration.

    Raises:
        ValueError: for patches that do not divide the image, ``positions`` that are not of images, or more
            convolutions than halve a patch or the width.

    Sources: Dosovitskiy et al. 2021, "An image is worth 16x16 words"; Xiao et al. 2021, "Early convolutions
    help transformers see better", whose stem has batch norms as well.

    Example:
        >>> import torch
        >>> from sightline.models import VisionEncoder, VisionEncoderConfig
        >>> config = VisionEncoderConfig(
        ...     width=32, layers=2, image_size=16, patch_size=4, channels=1, head="classification", classes=10
        ... )
        >>> logits, matrices = VisionEncoder(config)(torch.randn(2, 1, 16, 16), return_matrices=True)
        >>> logits.shape, matrices[0].shape
        (torch.Size([2, 10]), torch.Size([2, 4, 17, 17]))
    """

    config_class = VisionEncoderConfig
    config: VisionEncoderConfig

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__(config)
        if config.image_size % config.patch_size:
            raise ValueError(
                f"patch_size: {config.patch_size} does not divide the image_size of "
                f"{config.image_size} pixels."
            )
        self.stem = _stem(config)
        side = config.patch_size >> config.stem
        self.patches = nn.Conv2d(config.width if config.stem else config.channels, config.width, side, side)
        self.first = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = input_positions(config, 1 + config.patches)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = encoder_stack(config)
        self.head = ClassificationHead(config) if config.head == "classification" else None
        self._initialise()

    def _initialise(self) -> None:
        """Patches and positions of the same size: with small positions, whose vectors N(0, 0.02²) are usual,
        a small model takes epochs to learn where a patch lies.
        """
        initialise(self, std=self.config.width**-0.5)
        for layer in self.stem:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.patches.weight, std=_STD / math.sqrt(self.patches.weight[0].numel()))
        if isinstance(self.positions, LearnedPositions):
            nn.init.normal_(self.positions.weight, std=_STD)

    def forward(
        self, images: Tensor, *, return_matrices: bool = False
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """images [B,channels,size,size] → logits [B,K], or hidden states [B,1+P,C].

        Raises:
            ValueError: for images of another shape; TypeError: for what is no floating tensor.
        """
        output = self.encoder(self._embedded(images), return_matrices=return_matrices)
        if not return_matrices:
            return self._logits(output)
        states, matrices = output
        return self._logits(states), matrices

    def _logits(self, states: Tensor) -> Tensor:
        """Hidden states [B,1+P,C] → logits [B,K]; without a head they themselves."""
        if self.head is None:
            return states
        logits: Tensor = self.head(states)
        return logits

    def _embedded(self, images: Tensor) -> Tensor:
        check_tensor("images", images, "[B,channels,size,size]")
        check_weight("images", images, self.first)
        wanted = [self.config.channels, self.config.image_size, self.config.image_size]
        if list(images.shape[1:]) != wanted:
            raise ValueError(
                f"images: shape {list(images.shape)} does not fit; this model takes [B, "
                f"{', '.join(map(str, wanted))}]. Resize them."
            )
        x = self.patches(self.stem(images)).flatten(2).transpose(1, 2)  # [B,C,h,w] → [B,P,C]
        x = torch.cat((self.first.expand(x.shape[0], -1, -1), x), dim=1)
        if self.positions is not None:
            x = self.positions(x)
        embedded: Tensor = self.dropout(x)
        return embedded


def _stem(config: VisionEncoderConfig) -> nn.Sequential:
    """[B,channels,size,size] → [B,C,size/2ⁿ,size/2ⁿ]."""
    halved = 2**config.stem
    if config.stem and (config.patch_size % halved or config.width % (halved // 2)):
        raise ValueError(
            f"stem: {config.stem} convolutions do not halve a patch_size of {config.patch_size} and a width "
            f"of {config.width} without rest. Choose fewer, or sizes that {halved} divides."
        )
    layers: list[nn.Module] = []
    before = config.channels
    for left in reversed(range(config.stem)):
        after = config.width >> left
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        before = after
    return nn.Sequential(*layers)
