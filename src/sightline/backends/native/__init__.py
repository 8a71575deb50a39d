"""The C++ core as a backend: kernels for every instruction set, through ctypes."""

from sightline.backends.native.library import peak_dot_gflops, peak_gflops
from sightline.backends.native.wing import Native

__all__ = ["Native", "peak_dot_gflops", "peak_gflops"]
