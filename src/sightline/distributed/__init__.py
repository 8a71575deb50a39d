"""One sequence on several processes: attention that sees all of it, and its matrix."""

from sightline.distributed.link import ProcessError
from sightline.distributed.matrix import ShardedMatrix
from sightline.distributed.rolling import rollout
from sightline.distributed.session import context_parallel
from sightline.distributed.sharding import shard, unshard
from sightline.distributed.training import Batch, next_tokens, sum_gradients

__all__ = [
    "Batch",
    "ProcessError",
    "ShardedMatrix",
    "context_parallel",
    "next_tokens",
    "rollout",
    "shard",
    "sum_gradients",
    "unshard",
]
