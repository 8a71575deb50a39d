"""One sequence on several processes: attention that sees all of it, and its matrix."""

from sightline.distributed.layout import Layout, Segment
from sightline.distributed.link import ProcessError
from sightline.distributed.matrix import ShardedMatrix
from sightline.distributed.session import context_parallel
from sightline.distributed.sharding import shard, unshard

__all__ = ["Layout", "ProcessError", "Segment", "ShardedMatrix", "context_parallel", "shard", "unshard"]
