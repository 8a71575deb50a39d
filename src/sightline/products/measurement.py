"""Which way is fastest for a class of products: measured in 20 to 50 ms."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from sightline.products import stopwatch
from sightline.products.packings import PACKINGS
from sightline.products.shapes import Layer, ProductClass, example, sketch
from sightline.products.ways import WAYS

#: Another way has to take this share of PyTorch's time at most: measurements are noisy, and of few rows the
#: product is not all that takes time.
_CLEARLY = {"one": 0.7, "few": 0.7, "some": 0.9, "many": 0.9}
#: A way that takes so many times as long as another is out after one look.
_HOPELESS = 3.0
#: Packing pays from this share of the unpacked product's time on. Of many rows it takes less of a larger
#: product than of the example.
_PACKED_CLEARLY = {"one": 0.95, "few": 0.95, "some": 0.95, "many": 0.9}
#: Of gradients operands lie transposed. oneDNN multiplies such ones of float32, not of halves, half as fast
#: where they are large (1,024 rows of 3,072 numbers), which a quick example cannot show.
_ONEDNN_GRADIENTS = 1.25
_LOOKS = 2  # as the first may have been disturbed
_ROUNDS, _LEAST_ROUNDS = 6, 2
_SECONDS = 10e-3  # for all rounds, if they do not finish before


Product: TypeAlias = Callable[[], Tensor]


def fastest(of: ProductClass) -> str:
    """The name of the way to take."""
    few = of.rows in ("one", "few")
    able = [name for name, way in WAYS.items() if way.why_not(of.dtype) is None and (way.for_few or not few)]
    if len(able) == 1:
        return able[0]
    with torch.no_grad(), torch.autocast("cpu", enabled=False), _one_thread():
        if of.dtype != torch.float32:
            # Without instructions for a half, PyTorch takes up to 80 times as long: too long for an example.
            seconds = _measured(_warm(_of_ways(able, of, sketch(of))))
            able = [name for name in able if seconds[name] <= _HOPELESS * min(seconds.values())]
            if len(able) == 1:
                return able[0]
        products = _warm(_of_ways(able, of, example(of)))
        seconds = _priced(_measured(products), of)
        best = min(seconds, key=lambda name: seconds[name])
        if "pytorch" not in seconds or best == "pytorch":
            return best
        # A second look, as the first may have been disturbed; the least time of both counts.
        again = _priced(_measured({name: products[name] for name in ("pytorch", best)}), of)
        own, other = (min(seconds[name], again[name]) for name in ("pytorch", best))
        return best if other <= _CLEARLY[of.rows] * own else "pytorch"


@contextmanager
def _one_thread() -> Iterator[None]:
    """What one thread has worked can be told; several wait for one another while other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fastest_packing(of: ProductClass, way: str) -> str:
    """The name of the packing to take instead of a way that knows none; "none": it does not pay."""
    a, b, bias = _operands(of, example(of))
    with torch.no_grad(), torch.autocast("cpu", enabled=False), _one_thread():
        products: dict[str, Product] = {"none": partial(WAYS[way].multiply, a, b, bias)}
        for name, packing in PACKINGS.items():
            if packing.why_not(of.dtype) is None:
                products[name] = partial(packing.pack(b), a, bias)
        found = "none"
        _warm(products)
        for _ in range(_LOOKS):
            seconds = _measured(products)
            found = min(seconds, key=lambda name: seconds[name])
            if seconds[found] > _PACKED_CLEARLY[of.rows] * seconds["none"]:
                return "none"
        return found


def _priced(seconds: dict[str, float], of: ProductClass) -> dict[str, float]:
    """The times, such that the least one is that of the way to take."""
    if of.dtype == torch.float32 and of.rows == "many" and of.form != "forward" and "onednn" in seconds:
        seconds["onednn"] *= _ONEDNN_GRADIENTS
    return seconds


def _of_ways(able: list[str], of: ProductClass, layer: Layer) -> dict[str, Product]:
    """The same product by each way."""
    operands = _operands(of, layer)
    return {name: partial(WAYS[name].multiply, *operands) for name in able}


def _warm(products: dict[str, Product]) -> dict[str, Product]:
    """The products, each made once: that makes plans and touches memory."""
    for product in products.values():
        product()
    return products


def _measured(products: Mapping[str, Product]) -> dict[str, float]:
    """The least time of each over several rounds; they take turns, as other programs come and go."""
    least, started = dict.fromkeys(products, float("inf")), time.perf_counter()
    for number in range(1, _ROUNDS + 1):
        for name, product in products.items():
            least[name] = min(least[name], stopwatch.seconds(product))
        if number >= _LEAST_ROUNDS and time.perf_counter() - started > _SECONDS:
            break
    return least


def _operands(of: ProductClass, layer: Layer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Constant numbers: a measurement must not draw from the user's generator."""
    rows, inputs, outputs = layer

    def full(*shape: int) -> Tensor:
        return torch.full(shape, 0.5, dtype=of.dtype)

    if of.form in ("forward", "packed"):
        return full(rows, inputs), full(outputs, inputs), full(outputs)
    if of.form == "grad_input":
        return full(rows, outputs), full(outputs, inputs).t(), None
    return full(rows, outputs).t(), full(rows, inputs).t(), None
