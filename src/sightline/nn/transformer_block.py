"""One block of a Transformer: attention, feed-forward, and the residual stream around both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, overload

from torch import Tensor, nn

from sightline.biases import Bias
from sightline.common.check import flag, integer, share
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.cross_attention import CrossAttention
from sightline.nn.feed_forward import Activation, FeedForward
from sightline.nn.given import check_rows
from sightline.nn.kv_cache import KVCache
from sightline.nn.norm import Norm, make_norm
from sightline.nn.rotary import Rotary
from sightline.nn.self_attention import SelfAttention

_Attend = Callable[[Tensor], tuple[Tensor, AttentionMatrix | None]]
_Block = tuple[Tensor, AttentionMatrix | None, AttentionMatrix | None]


class BlockOptions(TypedDict, total=False):
    """What :class:`TransformerBlock` takes by keyword; stacks pass it on to their blocks.

    Example:
        >>> from sightline.nn import BlockOptions, TransformerBlock
        >>> options = BlockOptions(norm="rms", activation="swiglu", bias=False)
        >>> TransformerBlock(32, heads=4, **options).norm_first
        True
    """

    kv_heads: int | None
    hidden: int | None
    activation: Activation
    norm: Norm
    norm_first: bool
    norm_eps: float
    bias: bool
    dropout: float
    attention_dropout: float
    rotary: Rotary | None
    memory_width: int | None


class BlockMatrices(NamedTuple):
    """The attention matrices of one block; the second is ``None`` where it has no cross-attention.

    Attributes:
        self_attention: [B,H,N,N], or [B,H,N,M] with a cache.
        cross_attention: [B,H,N,M] over the memory.

    Example:
        >>> import torch
        >>> from sightline.nn import TransformerBlock
        >>> _, matrices = TransformerBlock(16, heads=2)(torch.randn(1, 5, 16), return_matrix=True)
        >>> matrices.self_attention.shape, matrices.cross_attention
        (torch.Size([1, 2, 5, 5]), None)
    """

    self_attention: AttentionMatrix
    cross_attention: AttentionMatrix | None


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if asked for, and a feed-forward layer, each with residual and norm.

    Pre-norm (GPT-2, ViT): ``h = x + attention(norm(x))``, ``out = h + feed_forward(norm(h))``; post-norm
    (BERT): ``h = norm(x + attention(x))``, ``out = norm(h + feed_forward(h))``. x and out are [B,N,C], and
    dropout applies to what is added.

    Args:
        width: C.
        heads: H.
        cross_attention: whether queries also look at a memory. Default: False.
        kv_heads: G, which divides H. Default: H.
        hidden: width of the feed-forward layer. Default: 4·C.
        activation: see :class:`FeedForward`. Default: "gelu".
        norm: "layer" or "rms". Default: "layer".
        norm_first: pre-norm, which trains without a warm-up, or post-norm. Default: True.
        norm_eps: added to the variance. Default: 1e-5.
        bias: whether the projections add a bias. Default: True.
        dropout: of what joins the residual stream, while training. Default: 0.
        attention_dropout: of the attention weights, while training. Default: 0.
        rotary: turns queries and keys by their positions. Default: none.
        memory_width: width of the memory. Default: C.

    Raises:
        ValueError: for an unknown norm, and as :class:`CrossAttention` and :class:`FeedForward`.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Xiong et al. 2020, "On layer normalization in
    the Transformer architecture".

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import TransformerBlock
        >>> block = TransformerBlock(32, heads=4, norm="rms", activation="swiglu", bias=False)
        >>> x, matrices = block(torch.randn(1, 5, 32), mask=sightline.causal(), return_matrix=True)
        >>> x.shape, matrices.self_attention.shape
        (torch.Size([1, 5, 32]), torch.Size([1, 4, 5, 5]))
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        cross_attention: bool = False,
        kv_heads: int | None = None,
        hidden: int | None = None,
        activation: Activation = "gelu",
        norm: Norm = "layer",
        norm_first: bool = True,
        norm_eps: float = 1e-5,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        rotary: Rotary | None = None,
        memory_width: int | None = None,
    ) -> None:
        super().__init__()
        width = integer("width", width, 1)
        self.norm_first, cross_attention = (
            flag("norm_first", norm_first),
            flag("cross_attention", cross_attention),
        )
        attention_dropout = share("attention_dropout", attention_dropout)
        self.self_attention = SelfAttention(
            width, heads, kv_heads=kv_heads, bias=bias, dropout=attention_dropout, rotary=rotary
        )
        self.self_attention_norm = make_norm(norm, width, norm_eps)
        self.cross_attention: CrossAttention | None = None
        if cross_attention:
            self.cross_attention = CrossAttention(
                width,
                heads,
                kv_heads=kv_heads,
                memory_width=memory_width,
                bias=bias,
                dropout=attention_dropout,
            )
            self.cross_attention_norm = make_norm(norm, width, norm_eps)
        self.feed_forward = FeedForward(width, hidden, activation=activation, bias=bias)
        self.feed_forward_norm = make_norm(norm, width, norm_eps)
        self.dropout = nn.Dropout(share("dropout", dropout))

    @overload
    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: Literal[True],
    ) -> tuple[Tensor, BlockMatrices]: ...

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        cache: KVCache | None = None,
        memory_cache: KVCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrix: bool = False,
    ) -> Tensor | tuple[Tensor, BlockMatrices]:
        """x [B,N,C] → [B,N,C].

        Args:
            x: [B,N,C].
            memory: [B,M,Cm], for the cross-attention.
            mask, bias, cache, lengths: of the self-attention; see :class:`SelfAttention`.
            memory_mask, memory_cache: of the cross-attention; see :class:`CrossAttention`.
            return_matrix: whether to return the :class:`BlockMatrices` as well.

        Raises:
            ValueError: for a memory without cross-attention, or the other way round.
        """
        check_rows("x", x, self.self_attention.width, self.self_attention.query)
        self._check(memory)
        attend: _Attend = partial(
            self._attended, self.self_attention, return_matrix,
            mask=mask, bias=bias, cache=cache, lengths=lengths,
        )  # fmt: skip
        recall: _Attend | None = None
        if self.cross_attention is not None:
            recall = partial(
                self._attended, self.cross_attention, return_matrix,
                memory=memory, mask=memory_mask, cache=memory_cache,
            )  # fmt: skip
        block = self._pre_norm if self.norm_first else self._post_norm
        out, own, across = block(x, attend, recall)
        return out if own is None else (out, BlockMatrices(own, across))

    if TYPE_CHECKING:  # nn.Module's own call takes and returns Any
        __call__ = forward

    def _pre_norm(self, x: Tensor, attend: _Attend, recall: _Attend | None) -> _Block:
        context, own = attend(self.self_attention_norm(x))
        h, across = x + context, None
        if recall is not None:
            context, across = recall(self.cross_attention_norm(h))
            h = h + context
        out = h + self._fed_forward(self.feed_forward_norm(h))
        return out, own, across

    def _post_norm(self, x: Tensor, attend: _Attend, recall: _Attend | None) -> _Block:
        context, own = attend(x)
        h, across = self.self_attention_norm(x + context), None
        if recall is not None:
            context, across = recall(h)
            h = self.cross_attention_norm(h + context)
        out = self.feed_forward_norm(h + self._fed_forward(h))
        return out, own, across

    def _attended(
        self, layer: nn.Module, return_matrix: bool, x: Tensor, **given: Any
    ) -> tuple[Tensor, AttentionMatrix | None]:
        """What an attention layer adds to the residual stream, and its matrix if asked for."""
        output = layer(x, **given, return_matrix=return_matrix)
        context, matrix = output if return_matrix else (output, None)
        return self.dropout(context), matrix

    def _fed_forward(self, x: Tensor) -> Tensor:
        """What the feed-forward layer adds to the residual stream."""
        added: Tensor = self.dropout(self.feed_forward(x))
        return added

    def _check(self, memory: Tensor | None) -> None:
        if (memory is None) is (self.cross_attention is None):
            return
        if memory is None:
            raise ValueError("memory: none was given, but this block has cross-attention, which needs one.")
        raise ValueError("memory: was given, but this block has no cross-attention.")
