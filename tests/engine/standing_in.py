"""Kernels that stand in for those of a GPU: what their documentation promises, computed on the CPU in float64."""

from __future__ import annotations

import math

import torch


def hidden(n, m, left, right):
    """What a window that counts from the bottom right hides; -1 for an open side."""
    i, j = torch.arange(n)[:, None] + m - n, torch.arange(m)
    return ((j < i - left) if left >= 0 else j < 0) | ((j > i + right) if right >= 0 else j < 0)


def answers(query, key, value, scale, left, right):
    """[H,N,D] in, or [B,H,N,D]; context and lse out."""
    scores = query.double() @ key.double().mT * scale
    scores = scores.masked_fill(hidden(query.shape[-2], key.shape[-2], left, right), -math.inf)
    return (scores.softmax(-1) @ value.double()).to(query.dtype), scores.logsumexp(-1).float()


def pieces(starts_q, starts_k, most_q, most_k):
    """Slices of the queries and the keys of each piece; what is said of them must be true."""
    assert starts_q.dtype == starts_k.dtype == torch.int32 and starts_q[0] == starts_k[0] == 0
    assert starts_q.diff().max() == most_q and starts_k.diff().max() == most_k
    ends = zip(starts_q[:-1], starts_q[1:], starts_k[:-1], starts_k[1:], strict=True)
    return [(slice(q, to_q), slice(k, to_k)) for q, to_q, k, to_k in ends]


def varlen(fault=lambda lse: lse):
    """varlen_attn, as PyTorch documents it; a fault may change its lse."""

    def attend(query, key, value, starts_q, starts_k, n, m, *, return_aux, scale, window_size, enable_gqa):
        assert return_aux.lse and enable_gqa == (query.shape[1] != key.shape[1])
        assert starts_q[-1] == query.shape[0] and starts_k[-1] == key.shape[0] == value.shape[0]
        group = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(group, 1) for one in (key, value))
        context, lse = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
        for q, k in pieces(starts_q, starts_k, n, m):
            own = (one.transpose(0, 1) for one in (query[q], key[k], value[k]))
            of_piece, lse[:, q] = answers(*own, scale, *window_size)
            context[q] = of_piece.transpose(0, 1)
        return context, fault(lse)

    return attend


def varlen_backward(grad, q, k, v, out, lse, starts_q, starts_k, n, m, causal, rng, scale, window):
    """torch_attn::_varlen_attn_backward."""
    assert (
        causal == (window == [-1, 0]) and lse.dtype == torch.float32 and lse.shape == (q.shape[1], q.shape[0])
    )
    found = [torch.empty_like(one) for one in (q, k, v)]
    for rows, keys in pieces(starts_q, starts_k, n, m):
        own = [one.transpose(0, 1)[None] for one in (grad[rows], q[rows], k[keys], v[keys], out[rows])]
        for one, part, of in zip(
            found, (rows, keys, keys), gradients(*own, lse[None, :, rows], scale, *window), strict=True
        ):
            one[part] = of[0].transpose(0, 1).to(one.dtype)
    return found


def efficient(fault=lambda lse: lse):
    """aten::_efficient_attention_forward, with its padded lse."""

    def attend(query, key, value, bias, a, b, c, d, dropout, mask, want_lse, *, scale):
        assert want_lse and bias is None and dropout == 0 and mask in (0, 2)
        given = [one.transpose(1, 2) for one in (query, key, value)]
        context, lse = answers(*given, scale, -1, 0 if mask == 2 else -1)
        n = lse.shape[2]
        lse = torch.nn.functional.pad(lse, (0, -n % 32), value=math.inf)
        return context.transpose(1, 2), fault(lse), None, None, n, key.shape[1]

    return attend


def efficient_backward(grad, q, k, v, bias, out, a, b, n, m, lse, p, seed, offset, mask, of_bias, *, scale):
    """aten::_efficient_attention_backward."""
    assert bias is None and lse.shape[-1] % 32 == 0 and not of_bias
    given = [each.transpose(1, 2) for each in (grad, q, k, v, out)]
    found = gradients(*given, lse[..., :n], scale, -1, 0 if mask == 2 else -1)
    return *(each.transpose(1, 2) for each in found), None


def gradients(grad, q, k, v, out, lse, scale, left, right):
    """A kernel's backward pass: δ from the context that it is given, weights from the lse."""
    group = q.shape[1] // k.shape[1]
    grad, q, out = grad.double(), q.double(), out.double()
    k, v = (each.double().repeat_interleave(group, 1) for each in (k, v))
    unseen = hidden(q.shape[2], k.shape[2], left, right)
    weights = (q @ k.mT * scale - lse.double()[..., None]).exp().masked_fill(unseen, 0)
    delta = (grad * out).sum(-1, keepdim=True)
    of_scores = weights * (grad @ v.mT - delta) * scale
    to_heads = [each.unflatten(1, (-1, group)).sum(2) for each in (of_scores.mT @ q, weights.mT @ grad)]
    return of_scores @ k, *to_heads
