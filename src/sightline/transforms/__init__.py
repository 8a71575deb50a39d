"""Functions of a problem under autograd, forward mode and torch.func, and their derivatives' derivatives."""

from sightline.transforms.function import Derivative, Kernels, apply, gradients, numbers_of

__all__ = ["Derivative", "Kernels", "apply", "gradients", "numbers_of"]
