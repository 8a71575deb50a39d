"""A GPU that is not there: tensors that say they are on "cuda", compute on the CPU, and refuse what a GPU does.

An operation on tensors of two devices raises as PyTorch does, and numbers leave through ``.cpu()`` alone. So a
whole program can be tested for tensors that were left on the wrong side, on a machine without a card. It says
nothing of kernels: none of a GPU's runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from sightline.backends.cuda import wing
from sightline.tracing import storage
from sightline.tracing.recorder import Recorder

CUDA = torch.device("cuda", 0)
_MOVES = {"_to_copy", "copy_", "_copy_from", "copy"}
#: An index may lie on the CPU.
_FACTORIES = (
    "tensor", "zeros", "ones", "full", "empty", "arange", "linspace", "rand", "randn", "randint", "randperm",
    "eye", "empty_strided",
)  # fmt: skip
_INDEXES = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index"}


class OnGpu(torch.Tensor):
    """A tensor on the pretended device; ``held`` has its numbers.

    PyTorch's own C++ takes it for one on the CPU, as it has no autograd for devices that it was built without.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=held.device, requires_grad=requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = CUDA  # type: ignore[assignment]
    is_cuda, is_cpu = True, False

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})

    def cpu(self, *_: Any) -> Tensor:
        return _Down.apply(self)

    def cuda(self, *_: Any) -> Tensor:
        return self

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype)
        device, dtype, _, _ = torch._C._nn._parse_to(
            *args, **{k: v for k, v in kwargs.items() if k != "copy"}
        )
        there = self.cpu() if device is not None and device.type == "cpu" else self
        return there if dtype is None or dtype == there.dtype else there.type(dtype)

    def __repr__(self, **_: Any) -> str:
        return f"OnGpu({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")


class _Down(torch.autograd.Function):
    """To the CPU; gradients the other way."""

    @staticmethod
    def forward(ctx: Any, given: OnGpu) -> Tensor:
        return given.held.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> OnGpu:
        return OnGpu(grad)


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, spec = tree_flatten((args, kwargs))
    there = [one for one in flat if isinstance(one, OnGpu)]
    name = function._schema.name.removeprefix("aten::")
    if function.namespace == "sightline" and there:  # an operator of ours: what it does is looked at, too
        if function._schema.name.endswith(
            "_backward"
        ):  # autograd's own zeros lie where it takes the rest to be
            args = tree_map(lambda one: _held(one, {}) if type(one) is Tensor else one, args)
        return torch._library.custom_ops.OPDEFS[function._schema.name]._init_fn(*args, **kwargs)
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted).type
    if there and name not in _MOVES:
        own = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, OnGpu) and one.dim()]
        if own and name not in _INDEXES:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                f"cpu! ({name})"
            )
    of = {id(one.held): one for one in there}
    flat = [one.held if isinstance(one, OnGpu) else one for one in flat]
    args, kwargs = tree_unflatten(flat, spec)
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
    answer = function(*args, **kwargs)
    if name == "copy_":
        return of.get(id(answer), answer)
    if wanted == "cuda" or there:
        return tree_map(lambda one: _held(one, of), answer)
    return answer


def _held(one: Any, of: dict[int, OnGpu]) -> Any:
    """What was given stays itself, what is new comes to lie on the device."""
    if not isinstance(one, Tensor):
        return one
    return of[id(one)] if id(one) in of else OnGpu(one)


class _Up(torch.autograd.Function):
    """To the device; gradients the other way."""

    @staticmethod
    def forward(ctx: Any, given: Tensor) -> OnGpu:
        return OnGpu(given.clone())

    @staticmethod
    def backward(ctx: Any, grad: OnGpu) -> Tensor:
        return grad.held


def _to(own: Any) -> Any:
    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(tensor, OnGpu):
            return tensor.to(*args, **kwargs)
        if args and isinstance(args[0], Tensor):  # PyTorch's C++ does not know the device of ours
            args = (args[0].device, args[0].dtype)
        named = {name: value for name, value in kwargs.items() if name != "copy"}
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **named)
        if device is None or device.type != "cuda":
            return own(tensor, *args, **kwargs)
        return _Up.apply(tensor if dtype is None else own(tensor, dtype))

    return to


def _made(own: Any) -> Any:
    """What makes tensors, on the device too."""

    def make(*args: Any, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != "cuda":
            return own(*args, device=device, requires_grad=requires_grad, **kwargs)
        return OnGpu(own(*args, **kwargs), requires_grad)

    return make


def _as(own: Any) -> Any:
    def make(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
        if isinstance(data, Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        made = own(data, dtype=dtype)
        return made if device is None else made.to(device)

    return make


def _seen(own: Any) -> Any:
    """A trace leaves out what subclasses of tensors compute; a GPU's are none."""

    def dispatch(recorder: Any, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return own(recorder, function, [one for one in types if one is not OnGpu], args, kwargs)

    return dispatch


@contextmanager
def pretend_gpu(capability: tuple[int, int] = (9, 0), *, kernels: bool = False) -> Iterator[torch.device]:
    """PyTorch with a card of that capability, inside the block.

    Args:
        capability: the card's.
        kernels: whether attention's kernels are among what is chosen from; none of them can run here.
    """
    names: dict[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_capability": lambda device=None: capability, "get_device_name": lambda device=None: "pretended",
        "get_arch_list": lambda: ["sm_80", "sm_90", "sm_120"], "_lazy_init": lambda: None, "is_bf16_supported": lambda: True,
        "set_device": lambda device: None, "synchronize": lambda device=None: None,
        "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device="cuda": None,
        # A PyTorch that was built for CUDA would ask a driver, which there may not be.
        "is_current_stream_capturing": lambda: False,
    }  # fmt: skip
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with (
            mock.patch.multiple(torch.cuda, **names),
            mock.patch.object(torch.Tensor, "to", _to(torch.Tensor.to)),
            mock.patch.multiple(torch, **{name: _made(getattr(torch, name)) for name in _FACTORIES}),
            mock.patch.object(torch, "as_tensor", _as(torch.as_tensor)),
            mock.patch.object(Recorder, "__torch_dispatch__", _seen(Recorder.__torch_dispatch__)),
            mock.patch("sightline.backends.triton.wing.missing", return_value="Triton is not installed"),
            mock.patch.object(wing, "KERNELS", wing.KERNELS if kernels else ()),
            mock.patch.object(storage, "_PLAIN", storage._PLAIN | {OnGpu}),
        ):
            yield CUDA
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
