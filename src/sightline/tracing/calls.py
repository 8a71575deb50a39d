"""Attention calls in the order in which they ran, and what can be asked of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sightline.common.slots import trace_html, trace_lens, trace_report, trace_why
from sightline.tracing.call import AttentionCall
from sightline.tracing.choice import Layers
from sightline.tracing.parts import is_shared
from sightline.tracing.saving import save

if TYPE_CHECKING:
    from sightline.measure import HeadLabel
    from sightline.tracing.media import Picture, Sound


class Calls:
    """Attention calls in the order in which they ran, by place or by module name.

    Attributes:
        notices: what to know about this trace, in sentences.
        model: the model's class or configuration name.
        tokens: the tokens that were looked at, once they are set.
        medium: the image or sound whose patches or frames were looked at, once it is set: a
            :class:`sightline.Picture` or a :class:`sightline.Sound`.
    """

    def __init__(self, calls: Sequence[AttentionCall] = (), model: str = "") -> None:
        self._calls = list(calls)
        self.notices: list[str] = []
        self.model = model
        self.tokens: list[str] | None = None
        self.medium: Picture | Sound | None = None
        self._residual: Any = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[AttentionCall]:
        return iter(tuple(self._calls))

    def __getitem__(self, which: int | str) -> AttentionCall:
        """A call by its place, or by the name of its module or of one around it.

        Raises:
            IndexError: for a place out of range; KeyError: for a name without a call, or with several.
        """
        if isinstance(which, str):
            return self._named(which)
        if isinstance(which, bool) or not isinstance(which, int):
            raise TypeError(f"trace[...]: takes a place or a module's name, got {which!r}.")
        if not -len(self) <= which < len(self):
            raise IndexError(f"trace[{which}]: there are {len(self)} calls.")
        return self._calls[which]

    def _named(self, name: str) -> AttentionCall:
        inside = [call for call in self._calls if call.name == name]
        inside = inside or [call for call in self._calls if call.name.startswith(f"{name}.")]
        if len(inside) == 1:
            return inside[0]
        if not inside:
            known = ", ".join(dict.fromkeys(repr(call.name) for call in self._calls)) or "none"
            raise KeyError(f"trace[{name!r}]: no attention ran there. Calls: {known}.")
        several = ", ".join(f"{call.index}: {call.name!r} ({call.kind})" for call in inside[:8])
        raise KeyError(
            f"trace[{name!r}]: {len(inside)} calls ran there ({several}). Ask for one by its place."
        )

    @property
    def unverified(self) -> list[AttentionCall]:
        """The calls whose matrix was not found to be the model's own; each has a reason."""
        return [call for call in self._calls if not call.verified]

    def heads(
        self, tokens: Tensor | None = None, *, under: str = "", unverified: bool = False, **options: Any
    ) -> dict[str, list[HeadLabel]]:
        """What each head of every self-attention call does, in a word, by the name of the call's module.

        Args:
            tokens: [M] or [B,M] token ids, for induction and duplicate-token heads.
            under: only calls in this module and inside it.
            unverified: label calls that were not verified, too.
            **options: as for :func:`sightline.measure.head_labels`, which has formulas and caveats.

        Raises:
            ValueError: where there is no such call; UnverifiedError: for an unverified one.
        """
        from sightline.measure import head_labels

        labels: dict[str, list[HeadLabel]] = {}
        for call in self._selves(under):
            name = call.name if call.name not in labels else f"{call.name} (call {call.index})"
            labels[name] = head_labels(call, tokens, unverified=unverified, **options)
        return labels

    def rollout(self, targets: int | Sequence[int], *, under: str = "", **options: Any) -> Tensor:
        """How much each input position reaches the targets through all self-attention layers.

        See :func:`sightline.measure.rollout` for formula, source, options and caveat.

        Args:
            targets: a position, or several; negative ones count from the end.
            under: only calls in this module and inside it: ``"encoder"`` of an encoder–decoder model.

        Returns:
            [B,N] for one target, [B,T,N] for several. Of a trace on several processes each gets its own
            positions, and they call it together; see :func:`sightline.distributed.rollout`.

        Raises:
            ValueError: where there is no such call, or the calls differ in length.
        """
        calls = self._selves(under)
        if any(map(is_shared, calls)):
            from sightline import distributed
            from sightline.measure.subject import matrices

            unverified = options.pop("unverified", False)
            return distributed.rollout(matrices(calls, unverified), targets, **options)
        from sightline.measure import rollout

        return rollout(calls, targets, **options)

    def relevance(self, targets: int | Sequence[int], *, under: str = "", **options: Any) -> Tensor:
        """How much each input position contributes to an output, by attention times its gradient.

        Needs ``sightline.trace(model, gradients=True)`` and the backward pass of the output in question.
        See :func:`sightline.measure.relevance` for formula, source, options and caveat.

        Args:
            targets: a position, or several; negative ones count from the end.
            under: only calls in this module and inside it.

        Returns:
            [B,N] for one target, [B,T,N] for several.

        Raises:
            ValueError: where there is no such call, or a call has no gradient.
        """
        from sightline.measure import relevance

        calls = self._selves(under)
        missing = next((call for call in calls if call.gradient is None), None)
        if missing is not None:
            raise ValueError(
                f"relevance: {missing.name or missing.index}: there is no gradient. "
                "Trace with gradients=True, and run output.backward() before."
            )
        return relevance(calls, targets, **options)

    def why(
        self,
        layer: int | str,
        head: int,
        query: int | None = None,
        key: int | None = None,
        *,
        batch: int | None = None,
        queries: Tensor | None = None,
        contrast: bool = False,
        unverified: bool = False,
    ) -> Any:
        """Why a query looks at a key: its score, split into what each part of the model wrote.

        ``scale · q·k = Σ table`` with ``q = Σ parts of the query``, ``k = Σ parts of the key``. A part is
        what the embedding of the tokens, the positions, one earlier head, one earlier feed-forward layer or
        the biases wrote to the residual stream, carried through the norms with their statistics held at their
        values (each is then linear) and through the head's projection. Rotary positions turn every part by
        its place. ALiBi and relative positions add their own term, ``.bias``. The score is that before a
        soft cap and before the mask.

        Needs ``sightline.trace(model, residual=True)``. See :class:`sightline.attribution.Why` for what it
        holds.

        Args:
            layer: which call, by place or name, as in ``trace[layer]``.
            head: which of its heads.
            query, key: which pair; negative ones count from the end. Without a key, the one that the query
                looks at most. Without both, the mean over all queries, each at the key that it looks at most:
                which parts the head looks by.
            batch: which batch entry. Default: the first for a pair, all for a mean.
            queries: bool [N] or [B,N], which queries a mean counts: leave padding out there. Default: all.
            contrast: explain the score less the mean score of the keys that the query may look at. What adds
                the same to all keys of a query changes no weight, and falls out.
            unverified: explain calls that were not verified, too.

        Returns:
            A :class:`~sightline.attribution.Why` for a query, else a :class:`~sightline.attribution.MeanWhy`.

        Raises:
            ValueError: without the recording; for a layer outside of the known stacks, places out of range,
                a model in training with dropout, or parts that do not add up to the score.

        Sources: Elhage et al. 2021, "A mathematical framework for transformer circuits"; Kamath et al. 2025,
        "Tracing attention computation through feature interactions".

        Example:
            >>> import sightline, torch
            >>> from sightline.models import Decoder, DecoderConfig
            >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
            >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
            ...     logits = model(torch.randint(50, (1, 7)))
            >>> why = trace.why(1, head=3, query=6, key=2)
            >>> why.query_parts[:3], abs(why.table.sum().item() - why.score) < 1e-5
            (('tokens', 'positions', 'layer 0 head 0'), True)
        """
        if self._residual is None:
            raise ValueError(
                "why: this trace holds nothing of the residual stream. Trace with "
                "sightline.trace(model, residual=True); copies and saved traces hold none."
            )
        return trace_why(
            self, self._residual, layer, head, query, key,
            batch=batch, queries=queries, contrast=contrast, unverified=unverified,
        )  # fmt: skip

    def lens(
        self,
        position: int,
        *,
        k: int | None = None,
        layers: int | Sequence[int] | None = None,
        batch: int = 0,
        model: str | None = None,
        words: Callable[[int], str] | Sequence[str] | None = None,
    ) -> Any:
        """What a position's vector says in words after each layer: the logit lens.

        ``probabilities = softmax(W · norm(stream))``: the residual stream behind the embedding, behind each
        attention and behind each feed-forward layer is read as if it were the last, through the model's own
        final norm and output matrix W. ``.contributions(token)`` is what each head brought to a word.

        Needs ``sightline.trace(model, residual=True)``, of a :class:`sightline.models.Decoder`,
        ``EncoderDecoder`` (its decoder; of one that copies, what it would write by itself) or ``Encoder``
        with a masked-token head (which is applied whole), or of a causal or masked model of Transformers. Of
        an ``Encoder`` with a head of classes and no pooler, labels take the place of words.
        Only the position asked for is read: S · V numbers.

        Args:
            position: which, of what the model was given; negative ones count from the end. What is read there
                is the word that comes next, in a masked-token model the word at that place.
            k: how many words. Default: 10, or as many as there are.
            layers: after which blocks. Default: all, and the embedding.
            batch: which batch entry.
            model: the name of one of several models that were traced together.
            words: strings of the V tokens, or a function of an id (``tokenizer.id_to_token``), to be shown.

        Returns:
            A :class:`~sightline.attribution.LogitLens`.

        Raises:
            ValueError: without the recording; for a model without output matrix, places out of range, a model
                in training with dropout, or weights changed since.

        Caveat: early layers need not write in the language of the output matrix; an unlikely word there may
        be on its way (Belrose et al. 2023).

        Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A mathematical
        framework for transformer circuits"; Belrose et al. 2023, "Eliciting latent predictions from
        transformers with the tuned lens".

        Example:
            >>> import sightline, torch
            >>> from sightline.models import Decoder, DecoderConfig
            >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50)).eval()
            >>> with torch.no_grad(), sightline.trace(model, residual=True) as trace:
            ...     logits = model(torch.randint(50, (1, 7)))
            >>> lens = trace.lens(-1, k=3)
            >>> torch.allclose(lens.logits[-1].float(), logits[0, -1].topk(3).values, atol=1e-4)
            True
        """
        if self._residual is None:
            raise ValueError(
                "lens: this trace holds nothing of the residual stream. Trace with "
                "sightline.trace(model, residual=True); copies and saved traces hold none."
            )
        return trace_lens(self._residual, position, k=k, layers=layers, batch=batch, model=model, words=words)

    @property
    def recorded(self) -> Any:
        """What was kept of the residual stream; ``None`` without ``residual=True``."""
        return self._residual

    def _selves(self, under: str) -> list[AttentionCall]:
        """The self-attention calls in a module and inside it, in the order in which they ran."""
        selves = [
            call
            for call in self._calls
            if call.kind == "self" and (not under or call.name == under or call.name.startswith(f"{under}."))
        ]
        if not selves:
            where = f" under {under!r}" if under else ""
            raise ValueError(f"trace: there is no call of self-attention{where} among {len(self)} calls.")
        return selves

    def save(self, path: str | Path) -> None:
        """Writes all calls to a safetensors file; see :func:`sightline.load_trace`.

        Inside of :func:`sightline.distributed.context_parallel` each process writes what it held, part 0
        of 2 of ``run.safetensors`` to ``run.0-of-2.safetensors``.
        """
        save(self, Path(path))

    def report(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        layers: Layers | None = None,
        tokens: Sequence[str] | Sequence[Sequence[str]] | None = None,
        batch: int = 0,
        unverified: bool = False,
    ) -> int:
        """Writes a self-contained page in which any weight can be looked at; needs ``sightline[app]``.

        The page holds queries and keys, not weights, and computes those as they are looked at, within 1e-3.
        It is what ``sightline look --html`` writes, and loads nothing from a network.

        Args:
            path: the HTML file.
            title: what to call the input. Default: its tokens, or the model.
            layers: the calls to show: their places, as in ``trace[3]``, or names, globs or a function of the
                name, as in :func:`sightline.trace`. Default: all.
            tokens: strings, one for each position; or two lists, of a source and of a target. A single list
                is the source's where both have its length. Default: ``trace.tokens``. Positions without
                tokens (patches, frames) are numbered.
            batch: which batch entry.
            unverified: show calls that were not verified, too; the page names them.

        Returns:
            The size of the page in bytes.

        Raises:
            ValueError: where there is nothing to show, the page would grow too large (the message says what
                to choose), the tokens fit no call, or the file cannot be written.

        Example:
            >>> import sightline, torch
            >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
            >>> with torch.no_grad(), sightline.trace(layer) as trace:
            ...     output = layer(torch.randn(1, 5, 16))
            >>> size = trace.report("/dev/null/x.html")
            Traceback (most recent call last):
                ...
            ValueError: report: cannot write /dev/null/x.html: the folder /dev/null does not exist
        """
        return trace_report(
            self, Path(path), title=title, layers=layers, tokens=tokens, batch=batch, unverified=unverified
        )

    def __repr__(self) -> str:
        doubt = f", {len(self.unverified)} unverified" if self.unverified else ""
        return f"{type(self).__name__}({self.model or 'no model'}, {len(self)} calls{doubt})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the explorer of a short trace, pictures of some heads of a long one."""
        return trace_html(self)
