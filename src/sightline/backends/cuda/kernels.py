"""PyTorch's kernels that give an lse, in the order in which they are asked. A new one is a line here."""

from __future__ import annotations

from sightline.backends.cuda.efficient import Efficient
from sightline.backends.cuda.flash import Flash
from sightline.backends.cuda.flex import Flex
from sightline.backends.cuda.kernel import Kernel

KERNELS: tuple[Kernel, ...] = (Flash(), Efficient(), Flex())
