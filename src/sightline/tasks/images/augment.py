"""Variations of training images, so that a small set teaches more."""

from __future__ import annotations

import torch
from torch import Tensor


def augmented(images: Tensor, *, flip: float, shift: int) -> Tensor:
    """Each image mirrored or not, and moved by some pixels; gaps are filled by repeating the edge.

    Random numbers come from PyTorch's own generator, whose state a checkpoint keeps.

    Args:
        images: [B,channels,size,size].
        flip: share of the images that are mirrored left to right.
        shift: by how many pixels at most, down or up and left or right.

    Example:
        >>> import torch
        >>> augmented(torch.arange(4).view(1, 1, 2, 2), flip=1.0, shift=0)
        tensor([[[[1, 0],
                  [3, 2]]]])
    """
    count, _, size, _ = images.shape
    mirrored = torch.rand(count) < flip
    down, right = torch.randint(-shift, shift + 1, (2, count))
    places = torch.arange(size)
    rows = (places - down[:, None]).clamp(0, size - 1)  # [B,size]: which row is there now
    columns = (places - right[:, None]).clamp(0, size - 1)
    columns = torch.where(mirrored[:, None], size - 1 - columns, columns)
    entries = torch.arange(count)[:, None, None]
    return images.transpose(0, 1)[:, entries, rows[:, :, None], columns[:, None, :]].transpose(0, 1)
