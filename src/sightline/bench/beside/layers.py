"""What replaces Sightline's stacks in a model: the same calls, computed by ``torch.nn``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sightline.bench.beside.weights import torch_layers
from sightline.masks import Mask, as_mask
from sightline.models import TransformerConfig
from sightline.nn import DecoderCache, TransformerDecoder, TransformerEncoder


class TorchEncoder(nn.Module):
    """Takes the place of a :class:`sightline.nn.TransformerEncoder`."""

    def __init__(self, config: TransformerConfig, stack: TransformerEncoder) -> None:
        super().__init__()
        self.layers: Any = torch_layers(config, stack)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        return_matrices: bool = False,
        behind: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> Tensor:
        """x [B,N,C] → [B,N,C]; the i-th of ``behind`` follows the i-th layer."""
        _check_wanted(return_matrices)
        hidden = _padding(mask, x, x.shape[1])
        if not behind:
            states: Tensor = self.layers(x, src_key_padding_mask=hidden)
            return states
        for layer, between in zip(self.layers.layers, behind, strict=True):
            x = between(layer(x, src_key_padding_mask=hidden))
        if self.layers.norm is not None:
            x = self.layers.norm(x)
        return x


class TorchDecoder(nn.Module):
    """Takes the place of a :class:`sightline.nn.TransformerDecoder`.

    ``torch.nn`` keeps no keys and values: with a cache, all earlier inputs are computed again at each step.
    """

    def __init__(self, config: TransformerConfig, stack: TransformerDecoder) -> None:
        super().__init__()
        self.layers = torch_layers(config, stack)
        self.window = stack.window

    @property
    def blocks(self) -> list[nn.Module]:
        """A single one, since one cache holds all inputs."""
        return [self.layers]

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        cache: DecoderCache | None = None,
        lengths: object = None,
        return_matrices: bool = False,
    ) -> Tensor:
        """x [B,N,C] → [B,N,C]."""
        _check_wanted(return_matrices)
        if mask is not None or lengths is not None:
            raise ValueError("mask, lengths: the model of torch.nn is causal and takes no more than that.")
        new = x.shape[1]
        if cache is not None:
            x, memory = _all_so_far(x, memory, cache)
        n = x.shape[1]
        if self.window is not None and n > self.window:
            raise ValueError(f"x: N={n} is beyond the window of {self.window}, which torch.nn does not have.")
        back = nn.Transformer.generate_square_subsequent_mask(n, x.device, x.dtype)
        if memory is None:
            states: Tensor = self.layers(x, mask=back, is_causal=True)
        else:
            hidden = _padding(memory_mask, x, memory.shape[1])
            states = self.layers(x, memory, tgt_mask=back, tgt_is_causal=True, memory_key_padding_mask=hidden)
        return states[:, n - new :]


def _all_so_far(x: Tensor, memory: Tensor | None, cache: DecoderCache) -> tuple[Tensor, Tensor | None]:
    """The vectors [B,N,C] of all steps, and the memory, from the caches, in which beams are reordered."""
    held, crossed = cache.self_attention[0], cache.cross_attention[0]
    whole, _ = held.append(x[:, None], x[:, None])
    if memory is None:
        return whole[:, 0], None
    if not len(crossed):
        crossed.append(memory[:, None], memory[:, None])
    return whole[:, 0], crossed.key[:, 0]


def _check_wanted(return_matrices: bool) -> None:
    if return_matrices:
        raise ValueError("return_matrices: the model of torch.nn has no attention matrices to return.")


def _padding(mask: Mask | Tensor | None, x: Tensor, keys: int) -> Tensor | None:
    """[B,M], True where ``torch.nn`` must not look."""
    if mask is None:
        return None
    visible = as_mask(mask).visible((x.shape[0], 1, x.shape[1], keys), x.device)
    if visible.shape[1:3] != (1, 1):
        raise ValueError("mask: beside torch.nn only padding is compared; this mask depends on the query.")
    return ~visible[:, 0, 0].expand(x.shape[0], keys)
