"""Self-attention: check → lower → run."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from sightline.backends import Problem
from sightline.biases import Bias
from sightline.call import changed, directly, listeners
from sightline.call.run import run
from sightline.common import several
from sightline.common.check import flag
from sightline.lowering import autocast, check_value, lower
from sightline.masks import Mask
from sightline.matrix import AttentionMatrix


@overload
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    return_matrix: Literal[False] = False,
) -> Tensor: ...


@overload
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    return_matrix: Literal[True, "differentiable"],
) -> tuple[Tensor, AttentionMatrix]: ...


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    return_matrix: bool | Literal["differentiable"] = False,
) -> Tensor | tuple[Tensor, AttentionMatrix]:
    """Exact self-attention with memory linear in the sequence.

    ``context = softmax(mask(cap(scale · q·kᵀ) + bias)) · v``, where ``cap(x) = softcap · tanh(x / softcap)``.
    The weights of a row sum to 1; with sinks to less, since ``exp(sink_h)`` joins the denominator only.

    Args:
        query: [B,H,N,D], float32, bfloat16, float16 or float64, on any device, with any strides. Or nested,
            as key and value then are too: [B,H,j,D], ``.transpose(1, 2)`` of a nested [B,j,H,D]. Each text
            then looks at itself, masks are of each text, and the matrix is that of the texts packed one after
            another, [1,H,ΣN,ΣM].
        key: [B,G,M,D] of the same dtype; query head h reads key/value head h // (H / G), nothing repeated.
        value: [B,G,M,E].
        mask: what may be looked at: :func:`causal`, :func:`window`, :func:`prefix`, :func:`lengths`,
            :func:`documents`, :func:`dense`, combined with ``&`` and ``|``, or a bool tensor that
            broadcasts to [B,H,N,M] (True = may look). Default: everything.
        bias: added to the scores: :func:`alibi`, :func:`relative`, or a floating tensor that broadcasts to
            [B,H,N,M]; -inf hides. Gradients reach slopes, tables and tensors. Default: none.
        scale: what the scores are multiplied with: a number, or a tensor with one entry, which gets
            gradients. Default: 1/√D.
        softcap: bounds the scaled scores to ±softcap; a number, or a tensor as above, whose gradients take
            the plain backend. Default: none.
        sinks: [H] logits, one per head. Default: none.
        dropout: share of weights drawn (from PyTorch's generator) and zeroed, the others / (1 - dropout).
        return_matrix: whether to return the attention matrix as well: lazy, without dropout, and detached
            unless it is to be "differentiable". Gradients then flow from its readouts as from the context;
            that of the entropy goes through the same backward pass.

    Returns:
        The context vectors [B,H,N,E] in the query's dtype; with ``return_matrix`` also the
        :class:`AttentionMatrix`. A query with nothing to look at gets a context of 0, never NaN. Causal
        masks align to the bottom right: the last query sees the last key.

    Raises:
        ValueError: for shapes that do not fit, tensors on different devices, an infinite scale or softcap, a
            dropout outside [0, 1]. TypeError: for dtypes that differ or are not supported.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Rabe & Staats 2021, "Self-attention does not
    need O(n²) memory"; Dao et al. 2022, "FlashAttention".

    Example:
        >>> import sightline, torch
        >>> query, key, value = torch.randn(3, 1, 8, 100, 64)
        >>> context, A = sightline.attention(query, key, value, mask=sightline.causal(), return_matrix=True)
        >>> context.shape, A.shape
        (torch.Size([1, 8, 100, 64]), torch.Size([1, 8, 100, 100]))
    """
    if several.anybody():
        here: Tensor | tuple[Tensor, AttentionMatrix] = several.attention(
            query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks,
            dropout=dropout, return_matrix=return_matrix,
        )  # fmt: skip
        return here
    told = listeners.anybody()
    bare = bias is softcap is sinks is None and type(dropout) is float and dropout == 0
    if bare and not told and return_matrix is False:
        context = directly.attend(query, key, value, mask, scale)
        if context is not None:
            return context
    if getattr(query, "is_nested", False):
        from sightline.call import nested  # late: few programs need it

        return nested.attention(
            attention, query, key, value, mask=mask, bias=bias, return_matrix=return_matrix,
            scale=scale, softcap=softcap, sinks=sinks, dropout=dropout,
        )  # fmt: skip
    if value is None:
        check_value(value)
    if return_matrix is not False and return_matrix != "differentiable":
        return_matrix = flag("return_matrix", return_matrix, "differentiable")
    query, key, value = autocast(query, key, value)
    problem = lower(
        query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks, dropout=dropout
    )
    if not return_matrix and not told:
        return run(problem, want_lse=False)[0]
    attached = return_matrix == "differentiable" or (told and listeners.anybody_follows())
    context, matrix = _with_matrix(problem, attached)
    if told:
        listeners.tell(matrix)
    if not return_matrix:
        return context
    return context, matrix.detach() if attached and return_matrix != "differentiable" else matrix


def _with_matrix(problem: Problem, attached: bool) -> tuple[Tensor, AttentionMatrix]:
    """Context and matrix, which gradients flow from if it is to be attached."""
    looked = _looked(problem) if attached else None
    if looked is not None:
        return looked
    context, lse = run(problem)
    became = changed.of(context)
    if became is not None:
        if attached and context.requires_grad:
            raise NotImplementedError(
                'return_matrix: "differentiable" has no gradients where sightline.intervene changes the '
                "call. Use True, or leave the call out of the change."
            )
        problem, lse = became.problem, became.lse
    return context, AttentionMatrix.of_problem(problem, lse, detach=not attached)


def _looked(problem: Problem) -> tuple[Tensor, AttentionMatrix] | None:
    """Context and differentiable matrix, where one backward pass can serve both."""
    from sightline.call.together import attend_and_look  # late: few programs need it

    found = attend_and_look(problem)
    if found is None:
        return None
    context, lse, node = found
    matrix = AttentionMatrix.of_problem(problem, lse, detach=False)
    matrix._entropy_node = node
    return context, matrix
