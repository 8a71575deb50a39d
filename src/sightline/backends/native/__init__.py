"""The C++ core as a backend: kernels for every instruction set, through ctypes."""

from sightline.backends.native.wing import Native

__all__ = ["Native"]
