"""Products with a matrix of weights: whichever way to multiply is fastest on this machine, measured once.

A layer asks :func:`linear` (``layer.py``); ``ways.py`` has the ways to multiply, ``choice.py`` chooses one,
``measurement.py`` measures them. ``packings.py`` has those with a weight that is packed for many products.
"""

from sightline.products.choice import facts, product, titles
from sightline.products.layer import linear
from sightline.products.packings import Packable, PackedWeight

__all__ = ["Packable", "PackedWeight", "facts", "linear", "product", "titles"]
