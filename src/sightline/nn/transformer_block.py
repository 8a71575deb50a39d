"""One block of a Transformer: attention, feed-forward, and the residual stream around both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from torch import Tensor, nn

from sightline.biases import Bias
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.nn.feed_forward import Activation, FeedForward
from sightline.nn.kv_cache import KVCache
from sightline.nn.rotary import Rotary
from sightline.nn.self_attention import CrossAttention, SelfAttention

Norm = Literal["layer", "rms"]


class BlockOptions(TypedDict, total=False):
    """What :class:`TransformerBlock` takes by keyword; stacks pass it on."""

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
    """The attention matrices of one block; the second is ``None`` where it has no cross-attention."""

    self_attention: AttentionMatrix
    cross_attention: AttentionMatrix | None


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if asked for, and a feed-forward layer, each with residual and norm.

    Pre-norm (GPT-2, ViT): ``x + dropout(f(norm(x)))``; post-norm (BERT): ``norm(x + dropout(f(x)))``.

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
        self.norm_first = norm_first
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
        self.dropout = nn.Dropout(dropout)

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
        if (memory is None) is not (self.cross_attention is None):
            has = "no cross-attention" if self.cross_attention is None else "cross-attention, which needs one"
            raise ValueError(
                f"memory: {'none was' if memory is None else 'was'} given, but this block has {has}."
            )
        matrices: list[AttentionMatrix | None] = []

        def kept(found: Any) -> Tensor:
            output, matrix = found if return_matrix else (found, None)
            matrices.append(matrix)
            return output  # type: ignore[no-any-return]

        def look(x: Tensor) -> Tensor:
            return kept(
                self.self_attention(
                    x, mask=mask, bias=bias, cache=cache, lengths=lengths, return_matrix=return_matrix
                )
            )

        def look_at_memory(x: Tensor) -> Tensor:
            return kept(
                self.cross_attention(  # type: ignore[misc]
                    x, memory, mask=memory_mask, cache=memory_cache, return_matrix=return_matrix
                )
            )

        x = self._residual(x, self.self_attention_norm, look)
        if self.cross_attention is not None:
            x = self._residual(x, self.cross_attention_norm, look_at_memory)
        x = self._residual(x, self.feed_forward_norm, self.feed_forward)
        if not return_matrix:
            return x
        return x, BlockMatrices(*matrices, *[None] * (2 - len(matrices)))  # type: ignore[arg-type]

    def _residual(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        added: Tensor
        if not self.norm_first:
            added = norm(x + self.dropout(layer(x)))
            return added
        added = self.dropout(layer(norm(x)))
        return x + added


def make_norm(norm: Norm, width: int, eps: float) -> nn.Module:
    """The layer norm or RMS norm of that width."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm: there is no {norm!r}; known: {', '.join(get_args(Norm))}.")
    return nn.LayerNorm(width, eps=eps) if norm == "layer" else nn.RMSNorm(width, eps=eps)
