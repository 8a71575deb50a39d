"""The matrices of a whole model, still attached to its graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from torch import nn

from sightline.call import listeners
from sightline.common.check import kind as check_kind
from sightline.matrix import AttentionMatrix
from sightline.nn import CrossAttention
from sightline.tracing import modules
from sightline.tracing.choice import LayerChoice, Layers
from sightline.tracing.uncompiled import compile_again, run_uncompiled

_CROSS = re.compile(r"cross|encoder_attn|encdec|multihead_attn", re.IGNORECASE)


@dataclass(frozen=True, eq=False, repr=False)
class WatchedCall:
    """One attention call of a watched model.

    Attributes:
        index: its place, in the order in which calls ran.
        name: the qualified name of the module that it ran in; "" for the model itself.
        kind: "self" or "cross", by the module's class or name.
        matrix: AttentionMatrix [B,H,N,M], differentiable, before dropout.

    Example:
        >>> import sightline, torch
        >>> layer = sightline.nn.SelfAttention(16, heads=2)
        >>> with sightline.losses.watch(layer) as calls:
        ...     output = layer(torch.randn(1, 5, 16))
        >>> calls[0]
        WatchedCall(0, '', self, [1, 2, 5, 5])
    """

    index: int
    name: str
    kind: str
    matrix: AttentionMatrix

    def __repr__(self) -> str:
        return f"WatchedCall({self.index}, {self.name!r}, {self.kind}, {list(self.matrix.shape)})"


class watch(Sequence[WatchedCall]):  # noqa: N801  (a context manager, in the manner of torch.no_grad)
    """Gives the attention matrices of a model as its forward pass runs, for a loss to be made of them.

    Within the block each call of Sightline's attention inside the model becomes a :class:`WatchedCall`, whose
    matrix [B,H,N,M] gradients flow from. The forward pass is what it is anyway, and nothing is computed until
    a loss asks; memory is what the backward pass keeps anyway: queries, keys and values. Backward passes may
    run after the block. Of a pass that gradient checkpointing repeats, the first run is given (with
    ``use_reentrant=False``; otherwise it has no gradients). Compiled models run uncompiled within the block.

    Models of :mod:`sightline.models` and layers of :mod:`sightline.nn` run on it; layers of ``torch.nn`` and
    models of Transformers do after ``sightline.accelerate(model)``, the latter also with
    ``attn_implementation="sightline"``, and whatever calls ``F.scaled_dot_product_attention`` does inside of
    ``sightline.sdpa_override()``. Attention of other makes is not seen: :func:`sightline.trace` sees it,
    detached.

    Args:
        model: the module; only calls inside it are given.
        layers: which layers, as for :func:`sightline.trace`. Default: all.

    Raises:
        TypeError: for what is no module; ValueError: for names that the model does not have; when the block
        ends, RuntimeError where no attention of Sightline ran, and ValueError for layers that never ran.

    Example:
        >>> import sightline, torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(vocabulary=50, width=32, heads=4, layers=2, max_positions=16))
        >>> ids = torch.randint(50, (2, 10))
        >>> with sightline.losses.watch(model) as calls:
        ...     logits = model(ids[:, :-1])
        >>> loss = torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:])
        >>> loss = loss + 0.1 * sightline.losses.entropy(calls, floor=0.3)
        >>> loss.backward()
        >>> [call.name for call in calls]
        ['decoder.blocks.0.self_attention', 'decoder.blocks.1.self_attention']
    """

    follows = True

    def __init__(self, model: nn.Module, layers: Layers | None = None) -> None:
        check_kind("model", model, nn.Module, "a torch.nn.Module")
        self._model = type(model).__name__
        self._stack = modules.ModuleStack(model)
        self._choice = LayerChoice(layers, self._stack.names.values())
        self._calls: list[WatchedCall] = []
        self._seen = 0
        self._used = False

    def __enter__(self) -> watch:
        if self._used:
            raise RuntimeError("watch: was used before; make a new one for each block.")
        self._used = True
        run_uncompiled()
        modules.listen(self)
        listeners.listen(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: object) -> None:
        listeners.stop_listening(self)
        modules.stop_listening(self)
        compile_again()
        self._stack.running.clear()
        if kind is not None:
            return
        if not self._seen:
            raise RuntimeError(
                f"watch: no attention of Sightline ran in {self._model}. If its attention is PyTorch's or "
                "Transformers', call sightline.accelerate(model) first, or open sightline.sdpa_override() "
                "around the pass."
            )
        missing = self._choice.missing()
        if missing is not None:
            raise ValueError(missing)

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run."""
        self._stack.enter(module, args)

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run."""
        self._stack.leave(module)

    def told(self, matrix: AttentionMatrix) -> None:
        """Attention has run."""
        if self._stack.foreign or not self._stack.running:
            return
        self._seen += 1
        name = self._stack.name
        kind = self._kind(name)
        if self._choice.takes(name, kind):
            self._calls.append(WatchedCall(len(self._calls), name, kind, matrix))

    def _kind(self, name: str) -> str:
        module = self._stack.module
        if isinstance(module, nn.MultiheadAttention):
            args = self._stack.running[-1].args
            return "cross" if len(args) > 1 and args[0] is not args[1] else "self"
        return "cross" if isinstance(module, CrossAttention) or _CROSS.search(name) else "self"

    @overload
    def __getitem__(self, place: int | str) -> WatchedCall: ...

    @overload
    def __getitem__(self, place: slice) -> list[WatchedCall]: ...

    def __getitem__(self, place: int | slice | str) -> WatchedCall | list[WatchedCall]:
        """The call at a place, a slice of the calls, or the first call of a module by its name."""
        if not isinstance(place, str):
            return self._calls[place]
        for call in self._calls:
            if call.name == place:
                return call
        ran = ", ".join(repr(call.name) for call in self._calls) or "none"
        raise KeyError(f"watch: no call of {place!r}; there are calls of: {ran}.")

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[WatchedCall]:
        return iter(self._calls)

    def __repr__(self) -> str:
        return f"watch({self._model}, {len(self)} calls)"
