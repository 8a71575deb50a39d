"""A small trace with a causal and an open layer, and an application that serves it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("starlette", reason="sightline serve needs the [app] extra")
pytest.importorskip("uvicorn", reason="sightline serve needs the [app] extra")
pytest.importorskip("httpx", reason="the tests of sightline serve need httpx")

from starlette.testclient import TestClient

import sightline
from sightline.view.server.app import create_app
from sightline.view.server.catalogue import open_files
from sightline.view.server.guard import allowed_hosts
from sightline.view.server.service import Service

from .serving import served

LENGTH = 1300  # two levels are needed, and the last row of cells is cut


@pytest.fixture(autouse=True)
def alone():
    """Small tensors: several threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_trace(length=LENGTH):
    generator = torch.Generator().manual_seed(3)
    with sightline.trace(None) as trace:
        for causal in (True, False):
            query, key, value = (2 * torch.randn(3, 1, 2, length, 8, generator=generator)).unbind()
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    trace.tokens = [f"t{i}" for i in range(length)]
    trace.model = "two layers"
    return trace


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "small.safetensors"
    make_trace().save(path)
    return path


@pytest.fixture(scope="session")
def trace(saved):
    return sightline.load_trace(saved)


@pytest.fixture
def service(saved):
    made = Service(open_files([saved]))
    yield made
    made.jobs.stop()


@pytest.fixture
def client(service):
    with TestClient(create_app(service, allowed_hosts("127.0.0.1", 8417)), "http://127.0.0.1:8417") as opened:
        yield opened


@pytest.fixture
def here(service):
    return f"/api/traces/{next(iter(service.traces))}"


@pytest.fixture
def running(service):
    """The same application behind a real uvicorn on a free port."""
    with served(service) as address:
        yield address
