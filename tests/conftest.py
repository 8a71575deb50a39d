"""Shared by all tests: determinism, and the budget of the property tests."""

import os

# Before anything of ours is imported: which way is fastest is a matter of the moment, and tests compare bits.
os.environ.setdefault("SIGHTLINE_PRODUCT", "pytorch")
# Before PyTorch loads OpenMP, whose threads otherwise wait in a loop: workers side by side would take each
# other's cores, and the many small products of the tests several times as long. Nothing is computed otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("default", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.register_profile("more", max_examples=120, deadline=None, derandomize=True)
hypothesis.settings.register_profile("short", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("SIGHTLINE_HYPOTHESIS", "default"))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


#: Documents whose examples train for ten seconds and more: `make docs` and `make test-all` run them.
LONG = [Path(__file__).parents[1] / "docs" / name for name in ("causing.md", "losses-distillation.md")]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path in LONG:
            item.add_marker(pytest.mark.slow)
