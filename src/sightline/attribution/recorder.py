"""What modules write to the residual stream, kept while a trace is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from sightline.attribution.frozen import reciprocal_std
from sightline.attribution.stream import Place, Stream, places, streams, supported
from sightline.models.embedding import TokenEmbedding
from sightline.tracing.aside import observing

#: From what a module was given and what it made, what is kept of it: [B,N,C], of norms [B,N].
_Role = Callable[[Tensor, Tensor], Tensor]


class ResidualRecorder:
    """Listens to the modules that write to a model's residual streams.

    Of each position it keeps one vector for the embedding, the positions and each feed-forward layer, the
    contexts of each attention layer before its output projection, and one number for each norm.

    Args:
        modules: all modules of the traced model.
        names: their qualified names, by ``id``.

    Raises:
        ValueError: for a model that holds no stream that is known.
    """

    def __init__(self, modules: Mapping[str, nn.Module], names: Mapping[int, str]) -> None:
        self.places: dict[str, Place] = places(modules, names)
        self.modules = dict(modules)
        if not self.places:
            raise ValueError(f"residual: what writes to this model's stream is known of {supported()}")
        #: Why nothing can be said, if so.
        self.reason: str | None = None
        #: The coarsest rounding in what was written.
        self.eps = 0.0
        self._roles: dict[int, dict[str, _Role]] = {}
        self._given: dict[int, Tensor] = {}
        self._chunks: dict[tuple[int, str], list[Tensor]] = {}
        self._dropouts: set[int] = set()
        for stream in streams(modules):
            self._listen_to(stream)

    def kept(self, module: nn.Module, what: str) -> Tensor:
        """What was kept of a module, the steps of a generation one after another.

        Args:
            module: the module.
            what: "given" to it, "made" or "added" by it, [B,N,C]; "rstd" of a norm, [B,N].

        Raises:
            ValueError: where it did not run, or with batches that differ.
        """
        chunks = self._chunks.get((id(module), what), [])
        if not chunks:
            raise ValueError(
                f"residual: a {type(module).__name__} before this layer did not run in this block."
            )
        if len({chunk.shape[0] for chunk in chunks}) > 1:
            raise ValueError(
                "residual: the model ran with batches of several sizes in this block. Trace each run by "
                "itself."
            )
        if len(chunks) > 1:
            chunks[:] = [torch.cat(chunks, 1)]
        return chunks[0]

    # --- what a trace calls -----------------------------------------------------------------------

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run."""
        if id(module) in self._roles and args:
            self._given[id(module)] = args[0]
        elif id(module) in self._dropouts and module.training and vars(module).get("p", 0):
            self.reason = "dropout was on, and changed what was written. Call model.eval() before"

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run; ``output`` is ``None`` where it failed."""
        roles, given = self._roles.get(id(module)), self._given.pop(id(module), None)
        if roles is None or given is None or output is None:
            return
        made = output[0] if isinstance(output, tuple) else output
        floats = [each for each in (given, made) if isinstance(each, Tensor)]
        if len(floats) < 2 or any(each.layout is not torch.strided or each.is_nested for each in floats):
            self.reason = "nested tensors ran through it. Pad them, and give lengths"
            return
        try:
            with observing(), _disable_current_modes():
                for what, role in roles.items():
                    self._chunks.setdefault((id(module), what), []).append(role(given, made))
            self.eps = max(self.eps, torch.finfo(made.dtype).eps)
        except Exception as error:  # must not become the model's
            self.reason = f"{type(module).__name__} could not be read: {type(error).__name__}: {error}"

    # --- who is listened to -----------------------------------------------------------------------

    def _listen_to(self, stream: Stream) -> None:
        self._listen_to_start(stream)
        self._norm(stream.stack.norm)
        for block in stream.blocks:
            self._keep(block.self_attention.output, given=_given)
            self._norm(block.self_attention_norm)
            if block.cross_attention is not None:
                self._keep(block.cross_attention.output, given=_given)
                self._norm(block.cross_attention_norm)
                if stream.memory is None:
                    self._keep(block.cross_attention.key, given=_given)
            self._keep(block.feed_forward, made=_made)
            self._norm(block.feed_forward_norm)
            self._dropouts.add(id(block.dropout))
        for layer in stream.behind:
            self._keep(layer, added=_added)

    def _listen_to_start(self, stream: Stream) -> None:
        start = stream.start
        if start is not None:
            self._dropouts.add(id(start.dropout))
            if start.positions is not None:
                self._keep(start.positions, added=_added)
        if not isinstance(start, TokenEmbedding):
            self._keep(stream.stack, given=_given)
            return
        self._keep(start.norm, given=_given)
        self._norm(start.norm)
        if start.segments is not None:
            self._keep(start.tokens, made=_made)

    def _norm(self, norm: nn.Module) -> None:
        if not isinstance(norm, nn.Identity):
            self._keep(norm, rstd=lambda given, made: reciprocal_std(norm, given))

    def _keep(self, module: nn.Module, **roles: _Role) -> None:
        self._roles.setdefault(id(module), {}).update(roles)


def _given(given: Tensor, made: Tensor) -> Tensor:
    return given.detach()


def _made(given: Tensor, made: Tensor) -> Tensor:
    return made.detach()


def _added(given: Tensor, made: Tensor) -> Tensor:
    return made.detach() - given.detach()
