"""Processes for all tests of this folder."""

import pytest
import torch

if not torch.distributed.is_available():
    pytest.skip("this PyTorch was built without torch.distributed", allow_module_level=True)

from distributed.pool import Pool


@pytest.fixture(scope="session")
def pool():
    started = Pool()
    yield started
    started.close()
