"""Writing with a model, token by token.

``running`` is the model in the middle of it, ``choice`` picks tokens, ``sampling`` and ``beam`` are the two
loops, ``generate`` chooses between them.
"""

from sightline.models.generation.generate import generate
from sightline.models.generation.result import Generated
from sightline.models.generation.running import Memory, Running

__all__ = ["Generated", "Memory", "Running", "generate"]
