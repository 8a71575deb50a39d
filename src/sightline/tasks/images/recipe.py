"""Settings of a run on images."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.common.errors import CommandError
from sightline.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ImageRecipe(Recipe):
    """Settings of every run, and of images.

    Attributes:
        image_size, patch: sides of an image and of its patches in pixels.
        stem: convolutions that halve an image before it is cut into patches.
        flip: share of the training images that are mirrored left to right.
        shift: by how many pixels training images are moved at most.
    """

    image_size: int = 28
    patch: int = 4
    stem: int = 0
    flip: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "image_size", "patch")
        if self.image_size % self.patch:
            raise CommandError(f"patch: {self.patch} does not divide the image_size of {self.image_size}")
        if self.stem < 0 or self.patch % 2**self.stem or self.width % 2**self.stem:
            raise CommandError(
                f"stem: from 0 up, as often as patch and width can be halved; got {self.stem} for a patch of "
                f"{self.patch} and a width of {self.width}"
            )
        if not 0 <= self.flip <= 1:
            raise CommandError(f"flip: from 0 to 1, got {self.flip}")
        if not 0 <= self.shift < self.image_size:
            raise CommandError(
                f"shift: from 0 to below the image_size of {self.image_size}, got {self.shift}"
            )
