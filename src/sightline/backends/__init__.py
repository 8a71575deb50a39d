"""Who computes: wings that keep one contract, and the place that chooses among them.

``native`` is the C++ core, ``plain`` PyTorch in blocks; :func:`sightline.backend` calls them "cpu" and
"chunked".
"""

from sightline.backends.block import MatrixBlock
from sightline.backends.choice import asked_first, backend, choose, decide, names
from sightline.backends.contract import Backend, Values, Work
from sightline.backends.problem import FIELDS, Problem, tensors, with_tensors

__all__ = [
    "FIELDS",
    "Backend",
    "MatrixBlock",
    "Problem",
    "Values",
    "Work",
    "asked_first",
    "backend",
    "choose",
    "decide",
    "names",
    "tensors",
    "with_tensors",
]
