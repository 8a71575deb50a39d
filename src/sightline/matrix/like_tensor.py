"""What lets a lazy matrix pass for a tensor: sizes, NumPy, torch functions, and the tensor's own methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__)


class LikeTensor:
    """A matrix that computes its entries when asked: products stay lazy, everything else densifies.

    ``==`` stays the identity, so that matrices can be keys of a dict.

    Subclasses give ``shape``, ``dense()``, ``@`` both ways and indexing. Densifying refuses past the limit
    and says what to call instead.
    """

    @property
    def shape(self) -> torch.Size:
        """The tensor's shape."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the tensor would lie."""
        raise NotImplementedError

    def dense(self, limit: int | None = None) -> Tensor:
        """The tensor itself."""
        raise NotImplementedError

    def __matmul__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __rmatmul__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        return self.dense()[index]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def size(self, dim: int | None = None) -> torch.Size | int:
        """The shape, or one entry of it."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """How many entries there are."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self.numel() == 1:
            return bool(self.dense())
        raise ValueError("an attention matrix with several weights has no truth value; ask for a readout.")

    def numpy(self) -> Any:
        """The dense entries as an array, up to the limit; bfloat16 as float32."""
        dense = self.dense().detach().cpu()
        return (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        # torch.as_tensor(A) and torch.from_dlpack(A) come here.
        return self.dense().detach().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return torch.empty(0, device=self.device).__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        # What is not known here is asked of the dense tensor, so that A.mean(1), A.sum(-1) and the like work.
        if name.startswith("_") or not callable(getattr(Tensor, name, None)):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.dense(), name)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MATMULS and len(args) == 2:
            left, right = args
            if isinstance(left, LikeTensor) and isinstance(right, Tensor):
                return left @ right
            if isinstance(right, LikeTensor) and isinstance(left, Tensor):
                return right.__rmatmul__(left)
        return func(*_densified(args), **_densified(kwargs or {}))


def _of_dense(name: str) -> Callable[..., Any]:
    def method(self: LikeTensor, *others: Any) -> Any:
        return getattr(self.dense(), name)(*_densified(others))

    method.__name__ = name
    return method


# Python looks for operators on the class, never through __getattr__.
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(LikeTensor, f"__{_name}__", _of_dense(f"__{_name}__"))
    setattr(LikeTensor, f"__r{_name}__", _of_dense(f"__r{_name}__"))
for _name in ("neg", "abs", "lt", "le", "gt", "ge"):
    setattr(LikeTensor, f"__{_name}__", _of_dense(f"__{_name}__"))


def _densified(value: Any) -> Any:
    if isinstance(value, LikeTensor):
        return value.dense()
    if isinstance(value, (list, tuple)):
        return type(value)(_densified(one) for one in value)
    if isinstance(value, dict):
        return {name: _densified(one) for name, one in value.items()}
    return value
