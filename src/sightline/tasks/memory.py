"""What training need not keep."""

from __future__ import annotations

import os


def keep_few_products() -> None:
    """oneDNN forgets the code of products whose shapes have not come for some steps.

    It makes code for each shape, and keeps 1,024 of them; nearly every batch of texts has shapes of its own.
    In bfloat16 a translation model took 14 GB after 600 steps, and 7 GB so. It counts from before the first
    product on; a number that the environment has stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
