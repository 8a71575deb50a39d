"""What processes saved, one file each, in a real browser: the explorer shows the weights of one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from sightline import distributed
from sightline.models import Decoder, DecoderConfig

LENGTH, LAYER, HEAD, QUERY = 301, 1, 2, 170  # which process 1 of 3 has, behind rows of its own from the front


def decoder() -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(width=32, heads=4, layers=2, vocabulary=256, positions="rotary", dropout=0.0)
    model = Decoder(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far from uniform
    return model


def ids() -> torch.Tensor:
    return torch.randint(256, (1, LENGTH), generator=torch.Generator().manual_seed(1))


def save(group: Any, path: str) -> None:
    """Each process saves its part of a trace, in zigzag order."""
    model = decoder()
    with distributed.context_parallel(group, order="zigzag", timeout=300):
        with sightline.trace(model) as trace:
            model(distributed.shard(ids(), 1))
        trace.tokens = [f"t{at}" for at in range(LENGTH)]  # those of the whole
        trace.save(path)
    dist.barrier(group)


@pytest.mark.slow
@pytest.mark.browser
def test_parts_in_the_explorer(pool, tmp_path):
    pytest.importorskip("starlette", reason="sightline serve needs the [app] extra")
    pytest.importorskip("uvicorn", reason="sightline serve needs the [app] extra")
    from sightline.view.server.catalogue import open_files
    from sightline.view.server.service import Service
    from view.browser import Tabs, launch
    from view.server.serving import served

    pool.run(save, str(tmp_path / "run.safetensors"), count=3)
    model = decoder()
    with sightline.trace(model) as alone:
        model(ids())
    row = alone[LAYER].matrix[0, HEAD, QUERY].double()
    weights, keys = row.topk(5)

    playwright, browser = launch()
    service = Service(open_files([tmp_path / "run.safetensors"]))
    try:
        with served(service) as address:
            tabs = Tabs(browser, allowed=(address, "blob:", "data:"))
            tab = tabs.open(f"{address}/#l={LAYER}&h={HEAD}&q={QUERY}")
            tab.wait_for_selector("#text tbody tr:nth-child(5)")
            lines = [tab.inner_text(f"#text tbody tr:nth-child({at})").split() for at in range(1, 6)]
            seen = tab.evaluate(
                "new Set([...document.querySelectorAll('#map canvas')].map((one) => one.width > 0)).has(true)"
            )
            tabs.close()
    finally:
        service.jobs.stop()
        browser.close()
        playwright.stop()
    assert tabs.problems == [] and seen
    assert [line[1:3] for line in lines] == [[f"t{key}", f"#{key}"] for key in keys.tolist()]
    assert [float(line[3]) for line in lines] == pytest.approx(weights.tolist(), abs=6e-5)
