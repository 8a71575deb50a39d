"""What this installation can do on this machine."""

from __future__ import annotations

import platform
import sys

import torch

from sightline._version import __version__
from sightline.backends.wings import WINGS
from sightline.products import facts as facts_of_products


def info() -> dict[str, str]:
    """Versions, the native core's instruction-set levels and which one is active, threads, and linear layers.

    Raises:
        ValueError: if SIGHTLINE_ISA names a level that does not exist or that this machine lacks.

    Example:
        >>> import sightline
        >>> sightline.info()["sightline"] == sightline.__version__
        True
    """
    facts = {
        "sightline": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "machine": f"{platform.machine()} {platform.system()}",
        "threads": str(torch.get_num_threads()),
    }
    for wing in WINGS:
        facts |= wing.facts()
    return facts | facts_of_products()
