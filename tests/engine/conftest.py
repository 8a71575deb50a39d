"""Shared by the engine's tests."""

import pytest
import torch

from engine.third_wing import Definition
from sightline.backends.wings import WINGS
from wings import wing

__all__ = ["wing"]

WINGS.append(Definition())


@pytest.fixture
def torch_threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
