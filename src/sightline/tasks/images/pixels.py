"""Any picture in the form that a model takes: upright, opaque, square, of one size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.tasks.rows import DataError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}
# By name, since for some formats Pillow starts other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


def pillow() -> Any:
    """Pillow's ``Image``.

    Raises:
        CommandError: it is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise CommandError('images need Pillow: pip install "sightline[tasks]"') from None
    return Image


def open_image(path: Path) -> Any:
    """A file as an upright RGB image; of several frames the first.

    Raises:
        DataError: it cannot be read, or has more pixels than Pillow considers safe
            (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    Image = pillow()
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                return upright(image)
    except UnidentifiedImageError:
        raise DataError(f"{path}: is no image of a kind that is read ({', '.join(_FORMATS)})") from None
    except Exception as error:  # damaged files make Pillow's decoders raise all kinds of errors
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: {reason.replace(repr(str(path)), 'it')}") from None


def upright(image: Any) -> Any:
    """RGB, turned as its EXIF data say, transparent parts on white.

    Raises:
        ValueError: for pixels without a known range, such as floating ones.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating numbers, whose range is not known")
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pillow().alpha_composite(pillow().new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def as_pixels(image: Any, size: int, channels: int) -> Tensor:
    """An upright image as [channels,size,size] uint8: its middle square, resized with antialiasing.

    One channel is the luminance of ITU-R 601.
    """
    from PIL import ImageOps

    if channels == 1:
        image = image.convert("L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), pillow().Resampling.BICUBIC)
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(size, size, channels).permute(2, 0, 1).contiguous()


def is_grey(pixels: Tensor) -> bool:
    """Whether the channels of [3,size,size] are one and the same."""
    return bool((pixels == pixels[:1]).all())
