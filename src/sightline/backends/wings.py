"""Every backend, in the order in which they are asked. A new one is a line here."""

from __future__ import annotations

from sightline.backends.contract import Backend
from sightline.backends.cuda import Cuda
from sightline.backends.native import Native
from sightline.backends.plain import Plain
from sightline.backends.triton import Triton

WINGS: list[Backend] = [Native(), Cuda(), Triton(), Plain()]
