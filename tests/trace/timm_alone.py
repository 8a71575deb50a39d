"""timm without torchvision.

timm imports torchvision for its image transforms and feature extraction; none of its models' forward passes
use it. PyPI's torchvision is built for PyTorch with CUDA and cannot be imported beside the CPU build, where
it also breaks transformers. So a stand-in takes its place for the length of the import, and no longer.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

_NAMES = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.models",
    "torchvision.models.feature_extraction",
    "torchvision.ops",
    "torchvision.ops.misc",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)

_INTERPOLATIONS = ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")


class _Anything:
    """Whatever is read from the stand-in: a class that can be named and subclassed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("this is a stand-in for torchvision: install the real one")


class _StandIn(ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {mode: mode for mode in _INTERPOLATIONS})


@contextmanager
def _torchvision_stands_in() -> Iterator[None]:
    assert not any(name.partition(".")[0] == "torchvision" for name in sys.modules)
    modules = {name: _StandIn(name) for name in _NAMES}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in _NAMES:
            del sys.modules[name]


def import_timm() -> Any:
    """timm, whether torchvision is installed or not.

    Raises:
        ModuleNotFoundError: without timm.
    """
    if "timm" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("timm")
    with _torchvision_stands_in():
        return importlib.import_module("timm")
