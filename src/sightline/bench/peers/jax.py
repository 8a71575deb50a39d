"""jax.nn.dot_product_attention, compiled by XLA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.pattern import FULL, CausalPattern, LengthsPattern, WindowPattern
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.sdpa import mask_tensor


class Jax(Peer):
    """Layout [B,N,H,D], ``jit``; ``is_causal``, a local window, lengths or a mask; backward: ``vjp``."""

    title = "JAX"
    packages = ("jax",)
    own_process = True

    def environment(self, threads: int) -> dict[str, str]:
        # XLA sets the size of its thread pool when it is loaded.
        return {"NPROC": str(threads), "PJRT_NPROC": str(threads), "JAX_PLATFORMS": "cpu"}

    def why_not(self, case: Case) -> str:
        entries = case.batch * case.heads * case.queries * case.length
        return "it holds the whole matrix: over 512 M entries" if entries > 1 << 29 else ""

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        import jax

        ready: Any = jax.block_until_ready
        query, key, value = (_to_jax(tensor.transpose(1, 2)) for tensor in given[:3])
        options = _options(case)
        leaves = [query, key, value] + ([] if given.bias is None else [_to_jax(given.bias)])

        def attend(query: Any, key: Any, value: Any, bias: Any = None) -> Any:
            return jax.nn.dot_product_attention(query, key, value, bias, **options)

        if case.direction == "forward":
            compiled = jax.jit(attend)
            return PreparedCase(
                lambda: ready(compiled(*leaves)), lambda out: [_to_torch(out).transpose(1, 2)]
            )
        fixed = {} if case.bias != "fixed" else {"bias": leaves.pop()}
        _, pullback = jax.vjp(jax.jit(lambda *given: attend(*given, **fixed)), *leaves)
        pull = jax.jit(lambda pullback, grad: pullback(grad))
        grad = _to_jax(given.grad.transpose(1, 2))
        return PreparedCase(lambda: ready(pull(pullback, grad)), _gradients)


def _gradients(arrays: Any) -> list[Tensor]:
    """[B,N,H,D] to [B,H,N,D]; the gradient of a bias has its own shape already."""
    tensors = [_to_torch(array) for array in arrays]
    return [tensor.transpose(1, 2) for tensor in tensors[:3]] + tensors[3:]


def _options(case: Case) -> dict[str, Any]:
    pattern = case.pattern
    if isinstance(pattern, CausalPattern):
        return {"is_causal": True}
    if isinstance(pattern, WindowPattern):
        return {"local_window_size": (pattern.left, 0)}
    if isinstance(pattern, LengthsPattern) and case.form == "best":
        import jax.numpy as jnp

        return {"key_value_seq_lengths": jnp.asarray(pattern.kept)}
    return {} if pattern == FULL else {"mask": _to_jax(mask_tensor(case))}


def _to_jax(tensor: Tensor) -> Any:
    import jax.numpy as jnp

    if tensor.dtype == torch.bfloat16:
        return jnp.asarray(tensor.float().contiguous().numpy()).astype(jnp.bfloat16)
    return jnp.asarray(tensor.contiguous().numpy())


def _to_torch(array: Any) -> Tensor:
    import jax.numpy as jnp
    import numpy

    return torch.from_numpy(numpy.array(array.astype(jnp.float32)))
