"""Writing with a model, token by token.

``decoding`` is the model in the middle of it, ``next_token`` chooses tokens, ``sampling`` and ``beam`` are
the two loops, ``writing`` decides between them.
"""

from sightline.models.generation.decoding import Decoding, Memory
from sightline.models.generation.result import Generated
from sightline.models.generation.writing import GenerationOptions, generate

__all__ = ["Decoding", "Generated", "GenerationOptions", "Memory", "generate"]
