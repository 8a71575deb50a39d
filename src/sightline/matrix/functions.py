"""What a function of PyTorch asks of a matrix without storage: facts, memory, to write, or the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Answered from what a tensor without storage knows of itself.
FACTS = frozenset({
    "dtype", "device", "layout", "itemsize", "nbytes", "name", "is_cpu", "is_cuda", "is_xpu", "is_mps",
    "is_mtia", "is_meta", "is_ipu", "is_xla", "is_hpu", "is_vulkan", "is_maia", "is_mkldnn", "is_quantized",
    "is_sparse", "is_sparse_csr", "is_nested", "is_leaf", "retains_grad", "grad", "grad_fn", "output_nr",
    "_version", "_base", "_is_view", "_backward_hooks", "_post_accumulate_grad_hooks", "_python_dispatch",
    "_has_symbolic_sizes_strides", "_cdata", "_grad", "_grad_fn", "__cuda_array_interface__",
    "dim", "size", "numel", "nelement", "ndimension", "stride", "storage_offset", "dim_order",
    "is_contiguous", "element_size", "get_device", "is_floating_point", "is_complex", "is_signed", "is_conj",
    "is_neg", "is_inference", "is_distributed", "is_same_size", "has_names", "result_type",
})  # fmt: skip
# Asked of a copy of the weights that the matrix keeps from then on: a pointer must stay valid.
MEMORY = frozenset({"data_ptr", "const_data_ptr", "untyped_storage", "storage", "_typed_storage"})
# Each reading gives a tensor of its own, so that what is hung on one of them would never be heard of.
_HOOKS = frozenset({"retain_grad", "register_hook", "register_post_accumulate_grad_hook"})
_WRITING_OPERATORS = frozenset({
    "__setitem__", "__delitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__",
    "__ifloordiv__", "__imod__", "__ipow__", "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__",
    "__imatmul__",
})  # fmt: skip


def name_of(func: Any) -> str:
    """The name of a function or method; of a property's getter or setter, the property's."""
    name: str = getattr(func, "__name__", "")
    if name != "__get__":
        return name
    of_python = getattr(func.__self__, "fget", None)  # else a property of C, which has a name itself
    return str((of_python or func.__self__).__name__)


def refuse_writes(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], is_matrix: Callable[[Any], bool]
) -> None:
    """Raises where a function would write into a matrix, or listen to the gradient of one reading of it."""
    name = name_of(func)
    written = [kwargs["out"]] if kwargs.get("out") is not None else []
    first = args[0] if args else kwargs.get("input", kwargs.get("self", kwargs.get("tensor")))
    if _writes_first(func, name) or kwargs.get("inplace") is True:
        written.append(first)
    if any(map(is_matrix, _flat(written))):
        raise read_only(_title(func, name, kwargs))
    if name in _HOOKS and is_matrix(first):
        raise RuntimeError(
            f"{name}: each reading of this matrix is a tensor of its own. Take one, weights = A.dense(), "
            f"use it and call weights.{name}()."
        )


def read_only(what: str) -> RuntimeError:
    """The error of whatever would write into a matrix."""
    return RuntimeError(
        f"{what}: the weights of this matrix are computed when they are asked for and cannot be written to. "
        "A.dense() gives a tensor that can be."
    )


def written_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that an operator of the dispatcher writes to."""
    written = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[place] if place < len(args) else kwargs.get(argument.name))
    return _flat(written)


def _writes_first(func: Any, name: str) -> bool:
    if getattr(func, "__name__", "") in ("__set__", "__delete__") or name in _WRITING_OPERATORS:
        return True
    return name.split(".")[0].endswith("_") and not name.startswith("__")


def _title(func: Any, name: str, kwargs: Mapping[str, Any]) -> str:
    """What the user wrote: ``.data =`` for a property's setter, else the function's name."""
    if name in ("__set__", "__delete__"):
        return f".{func.__self__.__name__} ="
    if _writes_first(func, name):
        return name
    return f"{name}(out=)" if kwargs.get("out") is not None else f"{name}(inplace=True)"


def _flat(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [one for value in values for one in _flat(value)]
    return [values]
