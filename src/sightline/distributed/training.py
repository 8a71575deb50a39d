"""What a training loop needs besides attention: batches cut with their labels, and gradients summed up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from sightline.common.check import check_integers, check_tensor
from sightline.distributed.link import Link
from sightline.distributed.sharding import joined, shard


class Batch(NamedTuple):
    """This process's part of a batch of texts.

    Attributes:
        ids: [B,n] tokens.
        labels: [B,n], the token after each, which another process may hold; -100 where there is none.
        positions: [n], where they stand in the whole: Hugging Face models take them as ``position_ids``.

    Example:
        >>> import torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> distributed.next_tokens(torch.tensor([[5, 6, 7]])).positions
        tensor([0, 1, 2])
        >>> torch.distributed.destroy_process_group()
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor


def next_tokens(ids: Tensor, documents: Tensor | None = None) -> Batch:
    """This process's part of texts, with the next token of each: labels are shifted before they are cut.

    ``labels[b,i] = ids[b,i+1]``; -100, which PyTorch's cross-entropy leaves out, at the end of a text, and at
    the end of each document where several are packed in one.

    Args:
        ids: [B,N], the whole, the same in all processes.
        documents: [N] or [B,N] ids, as for :func:`sightline.documents`.

    Raises:
        TypeError, ValueError: for what is no tensor of integers of that shape; RuntimeError: where
            torch.distributed was not started.

    Example:
        >>> import torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> distributed.next_tokens(torch.tensor([[5, 6, 7]])).labels
        tensor([[   6,    7, -100]])
        >>> torch.distributed.destroy_process_group()
    """
    check_tensor("ids", ids, "[B,N]", floating=False)
    check_integers("ids", ids)
    labels = torch.full_like(ids, -100, dtype=torch.int64)
    labels[:, :-1] = ids[:, 1:]
    if documents is not None:
        check_integers("documents", documents)
        if documents.shape not in (ids.shape, ids.shape[1:]):
            raise ValueError(
                f"documents: shape {list(documents.shape)} does not fit ids of shape {list(ids.shape)}. "
                "Give [N] or [B,N]."
            )
        ends = (documents[..., 1:] != documents[..., :-1]).expand(ids.shape[0], -1)
        labels[:, :-1] = labels[:, :-1].masked_fill(ends, -100)
    places = torch.arange(ids.shape[1], device=ids.device)
    return Batch(shard(ids, 1), shard(labels, 1), shard(places, 0))


def sum_gradients(parameters: Iterable[Tensor], group: dist.ProcessGroup | DeviceMesh | None = None) -> None:
    """Gives each parameter the sum of its gradients in all processes, which call it together.

    A parameter that all hold gets from each what its rows give. One without a gradient in any keeps none.

    Args:
        parameters: of any shape, [C,C] for instance; the same in all processes, in the same order.
        group: default: that of the block, or all processes.

    Raises:
        ProcessError: where another process has ended or hangs; RuntimeError: where torch.distributed was not
            started.

    Example:
        >>> import torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> layer = torch.nn.Linear(2, 1)
        >>> layer(torch.ones(3, 2)).sum().backward()
        >>> distributed.sum_gradients(layer.parameters())
        >>> layer.bias.grad
        tensor([3.])
        >>> torch.distributed.destroy_process_group()
    """
    link = joined().link if group is None else Link(group, joined().link.timeout)
    own = list(parameters)
    there = torch.tensor([one.grad is not None for one in own], dtype=torch.int64)
    anywhere = torch.tensor(link.gathered(there.tolist(), "gradients")).any(0).tolist()
    with torch.no_grad():
        for one, has in zip(own, anywhere, strict=True):
            if has:
                one.grad = torch.zeros_like(one) if one.grad is None else one.grad
                link.add_up(one.grad, "gradients")
