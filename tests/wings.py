"""Every wing that can run here, as a fixture; a folder's conftest imports it."""

import pytest

import sightline
from sightline.core import library

LEVELS = library.levels() if library.available() is None else []


@pytest.fixture(params=[*(("cpu", level) for level in LEVELS), ("chunked", None)], ids=lambda w: w[1] or w[0])
def wing(request, monkeypatch):
    """The name of a backend that is forced: the native one at every level, and plain PyTorch."""
    name, level = request.param
    if level is not None:
        monkeypatch.setenv("SIGHTLINE_ISA", level)
    with sightline.backend(name):
        yield name
