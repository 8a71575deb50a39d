"""A tensor without storage: what lets a lazy matrix stand wherever PyTorch expects a tensor."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from sightline.matrix.functions import FACTS, MEMORY, name_of, read_only, refuse_writes, written_arguments

_MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__)
# A null pointer must never be read; private, so that a later PyTorch may lack it.
_forbid_pointer = getattr(torch._C, "_set_throw_on_mutable_data_ptr", lambda _: None)


class LikeTensor(Tensor):
    """A matrix that computes its entries when asked: products stay lazy, everything else densifies.

    Subclasses give ``dense()``, ``@`` both ways and indexing. Densifying refuses past the limit
    and says what to call instead; writing is refused.
    """

    _shape: torch.Size
    _dtype: torch.dtype
    _device: torch.device
    _kept: Tensor | None = None  # the dense weights, where somebody asked for a pointer to them

    @classmethod
    def _without_storage(cls, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Self:
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break()  # a compiler cannot make one: this function runs as it is
        made: Self = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        _forbid_pointer(made)
        made._shape, made._dtype, made._device = torch.Size(shape), dtype, device
        return made

    def __reduce_ex__(self, _: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        raise NotImplementedError

    # --- what it is ---------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """The tensor's shape."""
        return self._shape

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The dtype of dense parts: the query's. Readouts are float32 or better."""
        return self._dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the query lies."""
        return self._device

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow from the weights."""
        return self._wants_grad()

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    # --- what subclasses give -----------------------------------------------------------------------

    def _wants_grad(self) -> bool:
        raise NotImplementedError

    def detach(self) -> Self:
        """The same without autograd, still lazy."""
        raise NotImplementedError

    def dense(self, limit: float | None = None) -> Tensor:
        """The tensor itself."""
        raise NotImplementedError

    def __matmul__(self, x: Any) -> Tensor:
        raise NotImplementedError

    def __rmatmul__(self, x: Any) -> Tensor:
        raise NotImplementedError

    # --- sizes --------------------------------------------------------------------------------------

    @property
    def ndim(self) -> int:  # type: ignore[override]
        """The number of axes."""
        return len(self.shape)

    @property
    def names(self) -> tuple[None, ...]:
        """No axis has a name."""
        return (None,) * self.ndim

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
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

    __hash__ = Tensor.__hash__  # the identity, so that matrices can be keys of a dict

    def __copy__(self) -> Self:
        make, given = self.__reduce_ex__(4)
        copied: Self = make(*given)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if id(self) not in memo:
            make, given = self.__reduce_ex__(4)
            memo[id(self)] = make(*copy.deepcopy(given, memo))
        copied: Self = memo[id(self)]
        return copied

    def __dir__(self) -> list[str]:
        return list(object.__dir__(self))

    def __format__(self, spec: str) -> str:
        return format(self.dense().item() if spec and self.numel() == 1 else repr(self), spec)

    # --- the same without autograd, in memory, elsewhere --------------------------------------------

    @property  # type: ignore[override]
    def data(self) -> Self:
        """The same without autograd, still lazy."""
        return self.detach()

    @data.setter
    def data(self, _: Any) -> NoReturn:
        raise read_only(".data =")

    def contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> Any:
        """Itself: it is as if its weights lay in order."""
        if memory_format == torch.contiguous_format:
            return self
        return self.dense().contiguous(memory_format=memory_format)

    def detach_(self) -> Self:
        """Itself, where it is detached already; else an error, as it cannot be written to."""
        if self.requires_grad:
            raise read_only("detach_")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Itself, where nothing would change; else an error."""
        if requires_grad != self.requires_grad:
            raise read_only("requires_grad_")
        return self

    def is_shared(self) -> bool:
        """Whether the weights lie in shared memory: they do not."""
        return False

    def to_dense(self, *args: Any, **kwargs: Any) -> Tensor:
        """All weights as a tensor with storage: :meth:`dense`, as ``Tensor.to_dense``."""
        return self.dense().to_dense(*args, **kwargs)

    def numpy(self, *, force: bool = False) -> Any:
        """The dense entries as an array, up to the limit; bfloat16 as float32."""
        dense = self.dense().detach().cpu()
        return (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack__(self, **options: Any) -> Any:
        return self.dense().detach().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return torch.empty(0, device=self.device).__dlpack_device__()

    def _memory(self) -> Tensor:
        """The dense weights at an address that stays theirs as long as the matrix is there."""
        if self._kept is None:
            self._kept = self.dense().detach().contiguous()
        return self._kept

    # --- everything else ----------------------------------------------------------------------------

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        refuse_writes(func, args, kwargs, _is_matrix)
        name = name_of(func)
        if name in FACTS or (name == "type" and len(args) == 1 and not kwargs):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if name in MEMORY and isinstance(args[0], LikeTensor):
            return func(args[0]._memory(), *args[1:], **kwargs)
        if func in _MATMULS and len(args) == 2:
            left, right = args
            if isinstance(left, LikeTensor) and isinstance(right, Tensor):
                return left.__rmatmul__(right) if func is Tensor.__rmatmul__ else left @ right
            if isinstance(right, LikeTensor) and isinstance(left, Tensor):
                return right.__rmatmul__(left)
        return func(*_densified(args), **_densified(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # What came here went past the door above, from C++: it must not find the storage missing.
        kwargs = kwargs or {}
        if any(map(_is_matrix, written_arguments(func, args, kwargs))):
            raise read_only(str(func))
        return func(*_densified(args), **_densified(kwargs))


with contextlib.suppress(AttributeError):  # private names, without which the compiler warns, once
    _frames = torch._C._dynamo.eval_frame
    _frames.set_code_exec_strategy(
        LikeTensor._without_storage.__func__.__code__,  # type: ignore[attr-defined]
        _frames._FrameExecStrategy(_frames._FrameAction.SKIP, _frames._FrameAction.DEFAULT),
    )


def _is_matrix(value: Any) -> bool:
    return isinstance(value, LikeTensor)


def _densified(value: Any) -> Any:
    if isinstance(value, LikeTensor):
        return value.dense()
    if isinstance(value, (list, tuple)):
        each = [_densified(one) for one in value]
        return type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    if isinstance(value, dict):
        return {name: _densified(one) for name, one in value.items()}
    return value
