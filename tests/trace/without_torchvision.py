"""timm's vision transformer where torchvision is not installed.

timm imports torchvision for its data sets and image transforms, which no model needs; and PyPI's torchvision does
not load beside the CPU build of PyTorch, which breaks Transformers too. So modules of empty names stand in for it,
only while timm is imported. The model itself is timm's code throughout.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import transformers

_MODULES = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.models",
    "torchvision.models.feature_extraction",
    "torchvision.ops",
    "torchvision.ops.misc",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)


def timm_vision_transformer() -> Any:
    """The class ``timm.models.VisionTransformer``; skips the test without timm."""
    # Transformers looks for torchvision once: before there is a stand-in.
    if transformers.utils.is_torchvision_available():
        return pytest.importorskip("timm", reason="timm is not installed").models.VisionTransformer
    with mock.patch.dict(sys.modules):
        stand_ins = {name: _Module(name) for name in _MODULES}
        sys.modules.update(stand_ins)
        timm = pytest.importorskip("timm", reason="timm is not installed")
        imported = {name: module for name, module in sys.modules.items() if name not in stand_ins}
    sys.modules.update(imported)
    return timm.models.VisionTransformer


class _Name(type):
    """A class with every attribute, such as the members of an enumeration: their names."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Module(ModuleType):
    """A module and package that has every name, as a class of nothing."""

    __path__: list[str] = []  # noqa: RUF012 (as packages have it)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or _Name(name, (), {})
