"""Plain PyTorch in blocks: any device, any dtype."""

from sightline.backends.plain.wing import Plain

__all__ = ["Plain"]
