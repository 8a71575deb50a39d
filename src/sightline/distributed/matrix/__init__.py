"""The attention matrix of a sequence on several processes."""

from sightline.distributed.matrix.sharded_matrix import ShardedMatrix

__all__ = ["ShardedMatrix"]
