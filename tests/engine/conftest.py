"""Shared by the engine's tests."""

import pytest
import torch

import sightline
from engine.third_wing import Definition
from sightline.backends.native import library
from sightline.backends.wings import WINGS

WINGS.append(Definition())


@pytest.fixture
def torch_threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


LEVELS = library.levels() if library.available() is None else []


@pytest.fixture(params=[*(("cpu", level) for level in LEVELS), ("chunked", None)], ids=lambda w: w[1] or w[0])
def wing(request, monkeypatch):
    """The name of a backend that is forced: the native one at every level, and plain PyTorch."""
    name, level = request.param
    if level is not None:
        monkeypatch.setenv("SIGHTLINE_ISA", level)
    with sightline.backend(name):
        yield name
