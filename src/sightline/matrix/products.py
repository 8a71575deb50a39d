"""The matrix as a linear operator, both ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.backends import Work, choose
from sightline.common.check import check_device, fits
from sightline.matrix.core import MatrixCore
from sightline.matrix.followed import followed
from sightline.matrix.like_tensor import LikeTensor


class Products(MatrixCore):
    """``A @ x`` and ``x @ A``, without A."""

    def __matmul__(self, x: Any) -> Tensor:
        """A @ x: [B,H,N,F] for x [M,F], [H,M,F] or [B,H,M,F]; [B,H,N] for x [M].

        Of another matrix the weights are made; of this one where x has more batch entries or heads.
        """
        self._unchanged()
        x = x.dense() if isinstance(x, LikeTensor) else x
        if self._widened_by(x):
            return torch.matmul(self.dense().to(x.dtype), x)
        columns = self._columns(x, self.sizes[3], "M")
        if self._followed or x.requires_grad:
            return self._as_other_side(followed("product", self._problem, columns, self._known_lse()), x)
        backend = choose(self._problem, Work("product"))
        return self._as_other_side(backend.product(self._problem, self._known_lse, columns), x)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A: [B,H,F,M] for x [F,N], [H,F,N] or [B,H,F,N]; [B,H,M] for x [N]."""
        if not isinstance(x, Tensor) or x.dim() < 2:
            return self.transposed_product(x)
        return self.transposed_product(x.transpose(-1, -2)).transpose(-1, -2)

    def transposed_product(self, x: Tensor) -> Tensor:
        """Aᵀ @ x: [B,H,M,F] for x [N,F], [H,N,F] or [B,H,N,F]; [B,H,M] for x [N]."""
        self._unchanged()
        x = x.dense() if isinstance(x, LikeTensor) else x
        if self._widened_by(x):
            return torch.matmul(self.dense().transpose(-1, -2).to(x.dtype), x)
        columns = self._columns(x, self.sizes[2], "N")
        known = self._known_lse()
        if self._followed or x.requires_grad:
            return self._as_other_side(followed("transposed_product", self._problem, columns, known), x)
        backend = choose(self._problem, Work("transposed_product"))
        return self._as_other_side(backend.transposed_product(self._problem, known, columns), x)

    def _widened_by(self, x: Any) -> bool:
        """Whether PyTorch would repeat the matrix, for an x of more batch entries or heads."""
        if not isinstance(x, Tensor) or x.dim() < 3:
            return False
        lead, own = x.shape[:-2], self.shape[:-2]
        if lead == own:
            return False
        both = list(zip(reversed(lead), reversed(own), strict=False))
        repeats = len(lead) > len(own) or any(want == 1 < have for have, want in both)
        return repeats and all(have == want or 1 in (have, want) for have, want in both)

    def _columns(self, x: Tensor, length: int, axis: str) -> Tensor:
        """The other side of a product as [B|1, H|1, length, F], or a clear error."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError("@: the other side must be a floating tensor.")
        check_device("@", x, self.device)
        columns = x[:, None] if x.dim() == 1 else x
        b, h, _, _ = self.sizes
        if self._dropped[1] and columns.dim() > 2:
            columns = columns.unsqueeze(-3)
        if columns.shape[-2] != length:
            raise ValueError(
                f"@: the other side has {columns.shape[-2]} entries along the axis {axis}={length} "
                "of the matrix. Transpose the one or the other."
            )
        return fits("@", columns, ("B", "H", axis, "F"), (b, h, length, columns.shape[-1]))

    def _as_other_side(self, product: Tensor, x: Tensor) -> Tensor:
        """A product in the dtype of x, a vector where x is one."""
        product = self._squeeze(product.to(x.dtype))
        return product[..., 0] if x.dim() == 1 else product
