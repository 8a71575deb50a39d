"""Products with a matrix of weights: whichever way to multiply is fastest on this machine, measured once.

A layer asks :func:`linear` (``layer.py``); ``ways.py`` has the ways to multiply, ``choice.py`` chooses one,
``measurement.py`` measures them.
"""

from sightline.products.choice import facts, product, titles
from sightline.products.layer import linear

__all__ = ["facts", "linear", "product", "titles"]
