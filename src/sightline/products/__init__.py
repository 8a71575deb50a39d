"""Products with a matrix of weights: whichever way to multiply is fastest on this machine, measured once.

A layer asks :func:`linear` (``layer.py``); ``ways.py`` has the ways to multiply, ``choice.py`` chooses one,
``measurement.py`` measures them. ``packings.py`` has those with a weight that is packed for many products.
``large_pages.py`` moves weights to memory whose addresses a processor finds faster; ``freed_memory.py`` keeps
such memory for what is computed.
"""

from sightline.products.choice import facts, product, titles
from sightline.products.freed_memory import keep_freed_memory
from sightline.products.large_pages import LargePages, move_to_large_pages
from sightline.products.layer import linear
from sightline.products.packings import Packable, PackedWeight

__all__ = [
    "LargePages",
    "Packable",
    "PackedWeight",
    "facts",
    "keep_freed_memory",
    "linear",
    "move_to_large_pages",
    "product",
    "titles",
]
