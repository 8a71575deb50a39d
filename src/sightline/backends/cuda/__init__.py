"""Attention by the vendor's kernels on CUDA, where one gives what is asked for together with its lse."""

from __future__ import annotations

from sightline.backends.cuda.wing import Cuda as Cuda

__all__ = ["Cuda"]
