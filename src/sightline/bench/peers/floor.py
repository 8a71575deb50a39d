"""A lower bound for decoding: reading every key and value once."""

from __future__ import annotations

from typing import Any

import torch

from sightline.bench.case import Case, Inputs
from sightline.bench.peers.peer import Peer, PreparedCase


class StreamingRead(Peer):
    """A vectorised sum over the cache, the fastest single pass over memory that PyTorch has."""

    title = "streaming read"

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        # Pairs of bfloat16 numbers read as float32: the sum is meaningless, the bytes are the same.
        streams = [tensor.flatten().view(torch.float32) for tensor in (given.key, given.value)]

        def read() -> Any:
            return [stream.sum() for stream in streams]

        return PreparedCase(read, lambda sums: [given.query])
