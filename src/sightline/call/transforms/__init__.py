"""Attention under PyTorch's transforms: forward mode, torch.func, vmap, and derivatives of derivatives."""

from sightline.call.transforms.function import attend, gradients

__all__ = ["attend", "gradients"]
