"""torch.nn.MultiheadAttention on Sightline, whose weights cost nothing until they are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from sightline.call.attention import attention
from sightline.call.nested import Ragged, check_pairs, of_each_text
from sightline.common.check import check_strided, flag, integer, kind, share
from sightline.masks import Mask, causal
from sightline.matrix import AttentionMatrix
from sightline.nn.given import check_weight
from sightline.nn.linear import OutputLinear
from sightline.nn.mean_over_heads import MeanOverHeads
from sightline.nn.torch_masks import torch_masks
from sightline.products import linear


class MultiheadAttention(nn.MultiheadAttention):
    """Drop-in for ``torch.nn.MultiheadAttention``: same arguments, ``state_dict`` and results, no N×M.

    ``context = softmax(mask(q·kᵀ/√D + bias)) · v`` per head, with projections as in :class:`CrossAttention`.
    ``need_weights=True`` costs nothing: what comes back is a lazy :class:`MeanOverHeads` [B,N,M], or with
    ``average_attn_weights=False`` an :class:`AttentionMatrix` [B,H,N,M]. Both pass for tensors, and gradients
    flow through them, as in PyTorch; ``.detach()`` makes readouts quick while training.

    Nested tensors [B,j,C] are taken with ``batch_first``; their weights are those of the texts packed one
    after another, [1,ΣN,ΣM].

    Three things differ on purpose. A query with nothing to look at gets a context of 0, not NaN. The weights
    are those before dropout. ``is_causal=True`` needs no ``attn_mask``, and is causal from the top left
    whatever the ``attn_mask`` says.

    Args:
        embed_dim: C, the width of the query and of the output.
        num_heads: H, which divides C.
        dropout: of the weights, while training. Default: 0.
        bias: whether the projections add a bias. Default: True.
        add_bias_kv: whether a trained key and value join the others. Default: False.
        add_zero_attn: whether a key and value of zeros join the others. Default: False.
        kdim, vdim: widths of key and value. Default: C.
        batch_first: whether tensors are [B,N,C] or [N,B,C]. Default: False.
        device, dtype: of the parameters.

    Raises:
        ValueError: for heads that do not divide the width, or a dropout outside [0, 1]; in the forward, for
            shapes that do not fit. TypeError: for masks of another dtype.

    Source: Vaswani et al. 2017, "Attention is all you need".

    Example:
        >>> import torch
        >>> from sightline.nn import MultiheadAttention
        >>> layer = MultiheadAttention(32, 4, batch_first=True)
        >>> x = torch.randn(1, 5, 32)
        >>> output, weights = layer(x, x, x)
        >>> output.shape, weights.shape, weights[0, 4].shape
        (torch.Size([1, 5, 32]), torch.Size([1, 5, 5]), torch.Size([5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        width, heads = integer("embed_dim", embed_dim, 1), integer("num_heads", num_heads, 1)
        if width % heads:
            raise ValueError(f"num_heads: {heads} do not divide embed_dim={width}. D must be whole.")
        super().__init__(
            width,
            heads,
            share("dropout", dropout),
            flag("bias", bias),
            flag("add_bias_kv", add_bias_kv),
            flag("add_zero_attn", add_zero_attn),
            None if kdim is None else integer("kdim", kdim, 1),
            None if vdim is None else integer("vdim", vdim, 1),
            flag("batch_first", batch_first),
            device=device,
            dtype=dtype,
        )
        self.out_proj.__class__ = OutputLinear  # the same parameters, drawn as PyTorch draws them

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: Literal[True] = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: Literal[True] = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, MeanOverHeads]: ...

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: Literal[True] = True,
        attn_mask: Tensor | None = None,
        *,
        average_attn_weights: Literal[False],
        is_causal: bool = False,
    ) -> tuple[Tensor, AttentionMatrix]: ...

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        *,
        need_weights: Literal[False],
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]: ...

    @overload
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, MeanOverHeads | AttentionMatrix | None]: ...

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, MeanOverHeads | AttentionMatrix | None]:
        """Attention as in PyTorch, with lazy weights.

        Args:
            query: [N,B,C], [B,N,C] with ``batch_first``, or [N,C]; or nested, [B,j,C].
            key, value: likewise, M long.
            key_padding_mask: [B,M] (or [M]): bool, True = may NOT look there, or floats that are added.
            need_weights: whether to return the weights. Default: True.
            attn_mask: [N,M] or [B·H,N,M]: bool, True = may NOT look there, or floats that are added.
            average_attn_weights: whether the weights are averaged over heads. Default: True.
            is_causal: each query sees the keys up to its own place, from the top left. Default: False.

        Returns:
            The output, in the query's layout, and the weights or ``None``.

        Raises:
            ValueError: for shapes that do not fit; TypeError for masks of another dtype.
        """
        same = (query is key, key is value)
        if getattr(query, "is_nested", False):
            self._check_nested(key_padding_mask, None if is_causal else attn_mask)
            return self._nested(query, key, value, same, need_weights, average_attn_weights, is_causal)
        kind("query", query, Tensor, "a tensor")
        batched = query.dim() == 3
        query, key, value = (
            self._batch_first(name, t, batched)
            for name, t in (("query", query), ("key", key), ("value", value))
        )
        q, k, v = self._project(query, key, value, same)  # [B,H,N,D]
        k, v, added = self._with_added_keys(k, v)
        shape = (*q.shape[:3], k.shape[2])
        mask, bias = torch_masks(key_padding_mask, attn_mask, is_causal, shape, added)
        output, matrix = self._attended(q, k, v, mask, bias, need_weights)
        if not batched:
            return output[0], _weights(None if matrix is None else matrix[0], average_attn_weights)
        output = output if self.batch_first else output.transpose(0, 1)
        return output, _weights(matrix, average_attn_weights)

    if TYPE_CHECKING:  # nn.Module's own call takes and returns Any
        __call__ = forward

    def _attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, bias: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, AttentionMatrix | None]:
        """Queries, keys and values by head → the output [B,N,C], and the matrix if asked for."""
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            context = attention(q, k, v, mask=mask, bias=bias, dropout=dropout)
            return self._joined_heads(context), None
        context, matrix = attention(q, k, v, mask=mask, bias=bias, dropout=dropout, return_matrix=True)
        if context.requires_grad:
            matrix = AttentionMatrix(q, k, v, mask=mask, bias=bias, detach=False)
        return self._joined_heads(context), matrix

    def _joined_heads(self, context: Tensor) -> Tensor:
        """[B,H,N,D] → the output [B,N,C]."""
        output: Tensor = self.out_proj(context.transpose(1, 2).flatten(2))
        return output

    def _nested(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        same: tuple[bool, bool],
        need_weights: bool,
        average: bool,
        is_causal: bool,
    ) -> tuple[Tensor, MeanOverHeads | AttentionMatrix | None]:
        """The same for nested tensors [B,j,C]."""
        packed = Ragged("query", query, "[B,j,C]")
        keys, values = Ragged("key", key, "[B,j,C]"), Ragged("value", value, "[B,j,C]")
        check_pairs(packed.rows, keys.rows, values.rows)
        q, k, v = self._project(packed.packed, keys.packed, values.packed, same)
        mask = of_each_text(causal("top-left") if is_causal else None, packed.rows, keys.rows)
        output, matrix = self._attended(q, k, v, mask, None, need_weights)
        return packed.nested(output), _weights(matrix, average)

    def _check_nested(self, key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> None:
        """Raises for what a nested batch cannot have."""
        for name, mask in (("key_padding_mask", key_padding_mask), ("attn_mask", attn_mask)):
            if mask is not None:
                raise ValueError(
                    f"{name}: a nested batch has no padding, and no mask of one shape. Leave it out, say "
                    "is_causal=True, or pad the batch with torch.nested.to_padded_tensor."
                )
        if not self.batch_first:
            raise ValueError("query: a nested batch is [B,j,C]; make this layer with batch_first=True.")
        if self.bias_k is not None or self.add_zero_attn:
            raise ValueError(
                "query: add_bias_kv and add_zero_attn give each text a key more, which a nested batch has no "
                "room for. Pad the batch with torch.nested.to_padded_tensor."
            )

    def _batch_first(self, name: str, tensor: Tensor, batched: bool) -> Tensor:
        """[B,N,C] of any layout."""
        kind(name, tensor, Tensor, "a tensor")
        check_strided(name, tensor)
        if tensor.dim() != (3 if batched else 2):
            axes = "[B,N,C] or [N,B,C]" if batched else "[N,C]"
            raise ValueError(
                f"{name}: expected {axes}, as the query has them, got shape {list(tensor.shape)}."
            )
        if not batched:
            return tensor[None]
        return tensor if self.batch_first else tensor.transpose(0, 1)

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, same: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, [B,H,N,D]."""
        for name, tensor, width in (
            ("query", query, self.embed_dim),
            ("key", key, self.kdim),
            ("value", value, self.vdim),
        ):
            if tensor.shape[-1] != width:
                raise ValueError(
                    f"{name}: width {tensor.shape[-1]} (axis C, the last) differs from the {width} expected."
                )
            check_weight(name, tensor, self.out_proj.weight)
        bias = self.in_proj_bias
        if self._qkv_same_embed_dim and all(same):
            projected = linear(query, self.in_proj_weight, bias).chunk(3, dim=-1)
        else:
            weights = (
                self.in_proj_weight.chunk(3)
                if self._qkv_same_embed_dim
                else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            )
            biases = (None, None, None) if bias is None else bias.chunk(3)
            projected = tuple(map(linear, (query, key, value), weights, biases))
        q, k, v = (t.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for t in projected)
        return q, k, v

    def _with_added_keys(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Keys and values with the trained one and the zero one, and how many were added."""
        before = key.shape[2]
        if self.bias_k is not None and self.bias_v is not None:
            key, value = self._joined(key, self.bias_k), self._joined(value, self.bias_v)
        if self.add_zero_attn:
            zeros = key.new_zeros(1, 1, self.embed_dim)
            key, value = self._joined(key, zeros), self._joined(value, zeros)
        return key, value, key.shape[2] - before

    def _joined(self, rows: Tensor, row: Tensor) -> Tensor:
        """One row [1,1,C] more for every batch entry."""
        b, h, _, d = rows.shape
        return torch.cat((rows, row.view(1, h, 1, d).expand(b, h, 1, d).to(rows.dtype)), dim=2)


def _weights(matrix: AttentionMatrix | None, average: bool) -> MeanOverHeads | AttentionMatrix | None:
    """What is handed out of the matrix."""
    return MeanOverHeads(matrix) if average and matrix is not None else matrix
