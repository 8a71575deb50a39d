"""QK-Clip: projections of queries and keys are made smaller where scores have grown too large."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from sightline.call import listeners
from sightline.common.check import kind, number
from sightline.losses.projections import Scaled, scaled_projections
from sightline.matrix import AttentionMatrix
from sightline.measure import max_logit
from sightline.tracing.choice import LayerChoice, Layers


class Clipped(NamedTuple):
    """What was clipped of one layer in one step.

    Attributes:
        name: the qualified name of the attention module.
        heads: which of its query heads.
        logits: their largest logits, before.

    Example:
        >>> from sightline.losses import Clipped
        >>> Clipped("decoder.blocks.0.self_attention", (3,), (140.0,)).heads
        (3,)
    """

    name: str
    heads: tuple[int, ...]
    logits: tuple[float, ...]


class QKClip:
    """After each step of an optimizer, makes the scores of heads smaller whose largest has passed a limit.

    With ``s_h = max over the step's batches, queries and keys of scale · q·k`` of head h (before soft cap and
    bias) and ``γ_h = min(1, τ / s_h)``, the weights and biases of the head's query and key projection are
    multiplied by ``√γ_h`` each, so that on the same inputs the largest score is τ, up to rounding of the
    weights. Heads that stay below the limit keep their function. Nothing else in training changes: no
    gradient, no optimizer state, no forward pass; the largest scores are read in the passes in training mode
    that run anyway.

    Grouped queries: heads of a group share a key projection. It is multiplied by √γ of the group's largest
    head, and each query projection by what its own γ_h leaves, ``γ_h / √(min of the group)``. Rotary
    positions turn, and so change nothing. Under soft caps and biases the scores before them are limited.
    Models that norm queries and keys (QK-norm) have no use for it: scores are bounded by the norms' gains,
    and scaled projections change nothing.

    With several processes under ``torch.distributed`` the largest scores of all count, and all clip alike.

    Args:
        model: whose layers of :mod:`sightline.nn` are clipped: ``SelfAttention``, ``CrossAttention`` and
            ``MultiheadAttention``, which ``sightline.accelerate(model)`` makes of ``torch.nn``'s.
        tau: τ, the limit. Default: 100, the paper's.
        layers: which of them, as for :func:`sightline.trace`. Default: all.
        group: the processes whose largest scores count. Default: all, where ``torch.distributed`` is set up.

    Raises:
        TypeError: for what is no module; ValueError: for a tau that is not above 0, layers that there are
        not, a model without such layers, projections that are no plain ones (adapters, quantised) or that
        two layers share.

    Source: Kimi Team 2025, "Kimi K2: open agentic intelligence" (MuonClip). The split for grouped queries is
    ours; with a key head for each query head it is the paper's.

    Example:
        >>> import sightline, torch
        >>> layer = sightline.nn.SelfAttention(16, heads=2)
        >>> layer.query.weight.data *= 100
        >>> x, optimizer = torch.randn(1, 8, 16), torch.optim.SGD(layer.parameters(), lr=0.0)
        >>> with sightline.losses.QKClip(layer, tau=50) as clip:
        ...     layer(x).square().mean().backward()
        ...     optimizer.step()
        ...     clipped = clip.step()
        >>> clipped[0].heads, layer(x, return_matrix=True)[1].max_score().amax() < 50.001
        ((0, 1), tensor(True))
    """

    def __init__(
        self, model: nn.Module, tau: float = 100.0, *, layers: Layers | None = None, group: Any = None
    ) -> None:
        kind("model", model, nn.Module, "a torch.nn.Module")
        self._tau, self._group = number("tau", tau, above=0), group
        self._layers = _chosen(model, layers)
        self._heard: dict[str, Tensor] = {}
        self._open: list[_Ear] = []
        self._handles: list[Any] = []
        for name, layer in self._layers.items():
            hooks = _Hooks(self, name)
            self._handles.append(layer.module.register_forward_pre_hook(hooks.before))
            self._handles.append(layer.module.register_forward_hook(hooks.after, always_call=True))

    @property
    def largest(self) -> dict[str, Tensor]:
        """By layer, the largest scaled score of each head since the last step, [H]; -inf for none."""
        return dict(self._heard)

    def step(self) -> list[Clipped]:
        """Clips what has passed the limit since the last step; call it after the optimizer's.

        Returns:
            The layers of which something was clipped.

        Raises:
            RuntimeError: where no layer ran in training mode since the last step, or a score is not finite.
        """
        if not self._heard:
            raise RuntimeError(
                "QKClip: no attention of the model ran in training mode since the last step. Call step() "
                "once after each optimizer step, and give a model that is not compiled: a compiled one tells "
                "nothing."
            )
        clipped = []
        for name, logits in self._collected().items():
            heads = [head for head, logit in enumerate(logits) if logit > self._tau]
            if heads:
                self._layers[name].scale([min(1.0, self._tau / max(logit, self._tau)) for logit in logits])
                clipped.append(Clipped(name, tuple(heads), tuple(logits[head] for head in heads)))
        return clipped

    def close(self) -> None:
        """Takes the hooks off the model."""
        while self._handles:
            self._handles.pop().remove()
        while self._open:
            listeners.stop_listening(self._open.pop())

    def __enter__(self) -> QKClip:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"QKClip({len(self._layers)} layers, tau={self._tau:g})"

    def _collected(self) -> dict[str, list[float]]:
        """The largest scores of all layers and processes, which are then forgotten."""
        heard, self._heard = self._heard, {}
        device = next(iter(heard.values())).device
        each = [
            heard.get(name, torch.full((layer.heads,), -math.inf)).to(
                device, torch.float64 if device.type != "mps" else torch.float32
            )
            for name, layer in self._layers.items()
        ]
        together = torch.cat(each)
        if distributed.is_available() and distributed.is_initialized():
            # NaN is lost by a maximum on some backends; inf is not.
            together = together.nan_to_num(math.inf, math.inf, -math.inf)
            distributed.all_reduce(together, distributed.ReduceOp.MAX, self._group)
        parts = together.split([layer.heads for layer in self._layers.values()])
        found = dict(zip(self._layers, (part.tolist() for part in parts), strict=True))
        for name, logits in found.items():
            for head, logit in enumerate(logits):
                if not logit < math.inf:
                    raise RuntimeError(
                        f"QKClip: head {head} of {name or 'the model'} has scores that are not finite "
                        f"({logit}); there is no factor that mends that. The weights were left as they are."
                    )
        return found

    def hear(self, name: str, matrix: AttentionMatrix) -> None:
        """A layer has run with this matrix."""
        with torch.no_grad():
            largest = _largest(matrix.detach())
        before = self._heard.get(name)
        self._heard[name] = largest if before is None else torch.maximum(before, largest)


def _chosen(model: nn.Module, layers: Layers | None) -> dict[str, Scaled]:
    found = dict(scaled_projections(model))
    if not found:
        raise ValueError(
            f"model: {type(model).__name__} has no attention layer of sightline.nn. For layers of torch.nn "
            "call sightline.accelerate(model) first."
        )
    choice = LayerChoice(layers, [name for name, _ in model.named_modules()])
    chosen = {name: layer for name, layer in found.items() if choice.takes(name, layer.kind)}
    missing = choice.missing()
    if missing is not None or not chosen:
        raise ValueError(missing or f"layers: none of {', '.join(map(repr, found))} is chosen.")
    for layer in chosen.values():
        layer.check()
    _check_shared(chosen.items())
    return chosen


def _check_shared(layers: Iterable[tuple[str, Scaled]]) -> None:
    owner: dict[int, str] = {}
    for name, layer in layers:
        for weight in layer.parameters():
            other = owner.setdefault(id(weight), name)
            if other != name:
                raise ValueError(
                    f"model: {other!r} and {name!r} share a projection, which would be clipped twice. Choose "
                    "one of them by layers=."
                )


def _largest(matrix: AttentionMatrix) -> Tensor:
    """The largest scaled score of each head, [H]; -inf where nothing is seen."""
    problem = matrix.problem
    if problem.bias is not None:
        return max_logit(matrix, stage="scaled").amax(0)
    if problem.slopes is not None or problem.table is not None or problem.softcap is not None:
        bare = replace(problem, slopes=None, table=None, offset=None, softcap=None)
        matrix = AttentionMatrix.of_problem(bare)
    largest = matrix.max_score()
    if not largest.numel():
        return largest.new_full(largest.shape[1:2], -math.inf)
    return largest.amax((0, 2))


class _Ear:
    """Listens while one layer runs."""

    follows = False

    def __init__(self, clip: QKClip, name: str) -> None:
        self._clip, self._name = clip, name

    def told(self, matrix: AttentionMatrix) -> None:
        self._clip.hear(self._name, matrix)


class _Hooks:
    """What a layer holds of its QKClip; copies and pickles of the layer are not clipped."""

    def __init__(self, clip: QKClip | None = None, name: str = "") -> None:
        self._clip, self._name = clip, name

    def before(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or self._clip is None:
            return
        if module.training:
            ear = _Ear(self._clip, self._name)
            self._clip._open.append(ear)
            listeners.listen(ear)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or self._clip is None:
            return
        while self._clip._open:
            listeners.stop_listening(self._clip._open.pop())

    def __reduce__(self) -> tuple[type[_Hooks], tuple[()]]:
        return _Hooks, ()
