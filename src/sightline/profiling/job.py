"""One profile from beginning to end: what Python and the command line have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sightline.call.info import info
from sightline.common.errors import CommandError
from sightline.profiling.batches import Encoder, IdEncoder, TextEncoder
from sightline.profiling.checkpoint import Checkpoint
from sightline.profiling.corpus import Corpus, Document
from sightline.profiling.run import Progress, Wish, Work
from sightline.profiling.shards import Shards
from sightline.profiling.state import State
from sightline.profiling.statistics import chosen
from sightline.profiling.subject import Runner, Subject
from sightline.profiling.table import Profile, profile_of
from sightline.tracing.choice import Layers

__all__ = ["Job", "Progress"]

#: The model name that stands for the one that comes as a package.
DEFAULT = "default"


@dataclass
class _Model:
    """A model with what is known of it."""

    name: str
    model: nn.Module
    tokenizer: Any
    limit: int | None


class Job:
    """A profile that is to be made; arguments as for :func:`sightline.profile`.

    Args:
        dtype: of a model that is given by name.
        shards: this process among others; found out by default.
    """

    def __init__(
        self,
        model: str | nn.Module,
        documents: Path | Corpus | Iterable[Any],
        *,
        tokenizer: Any = None,
        measures: Sequence[str] | None = None,
        layers: Layers | None = None,
        max_tokens: int | None = None,
        windows: bool = False,
        batch: int = 16,
        limit: int | None = None,
        unverified: bool = False,
        labels: bool | None = None,
        run: Runner | None = None,
        dtype: str = "float32",
        shards: Shards | None = None,
    ) -> None:
        for name, value in (("batch", batch), ("limit", limit), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise CommandError(f"{name}: must be 1 or more, got {value}")
        statistics = chosen(measures)
        self._documents = Corpus(documents) if isinstance(documents, Path) else documents
        self._shards = shards or Shards.joined()
        self._model = _loaded(model, tokenizer, dtype)
        self._subject = Subject(self._model.model, run)
        known = [one for one in (max_tokens, self._model.limit) if one is not None]
        self._limit, self._windows = min(known, default=None), windows
        pad = getattr(self._model.tokenizer, "pad_token_id", None) or 0
        labels = measures is None if labels is None else labels
        self._wish = Wish(statistics, layers, batch, limit, pad, unverified, labels)
        self._work: Work | None = None

    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on, by the name of the option that sets it."""
        facts = info()
        transformers = sys.modules.get("transformers")
        corpus = self._documents.identity() if isinstance(self._documents, Corpus) else "given in Python"
        reading = self._documents if isinstance(self._documents, Corpus) else None
        wish = self._wish
        return {
            "model": self._subject.identity(),
            "corpus": corpus,
            "split": reading and reading.split,
            "field": reading and reading.field,
            "target": reading and reading.target,
            "skip-bad": reading and reading.skip_bad,
            "measures": [one.name for one in wish.statistics],
            "layers": "by a function" if callable(wish.layers) else wish.layers,
            "max-tokens": self._limit,
            "windows": self._windows,
            "batch": wish.batch,
            "limit": wish.limit,
            "unverified": wish.unverified,
            "labels": wish.labels,
            "dtype": str(next(self._model.model.parameters()).dtype).removeprefix("torch."),
            "threads": facts["threads"],
            "instructions": facts.get("level active"),
            "sightline": facts["sightline"],
            "torch": facts["torch"],
            "transformers": getattr(transformers, "__version__", None),
        }

    def run(
        self,
        checkpoint: Path | None = None,
        resume: bool | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Profile:
        """Measures, together with the other shards if there are any; every one gets the whole profile.

        Raises:
            Interrupted, CommandError: as :func:`sightline.profile`.
        """
        settings = self.settings()
        self._agree(settings)
        self._work = work = Work(self._subject, self._encoder, self._wish, self._shards)
        if progress is not None:
            work.progress = progress
        if checkpoint is not None:
            work.checkpoint = Checkpoint(checkpoint, settings, self._shards.rank, self._shards.world)
            work.state = _begun(work.checkpoint, resume)
        work.run(self._documents)
        whole = State()
        for part in self._shards.gathered(work.state.to_json()):
            whole.add_json(part)
        return profile_of(whole, self._info(whole, settings))

    def done(self) -> None:
        """Deletes the checkpoint, when the profile is where it should be."""
        self._shards.gathered(None)
        if self._work is not None and self._work.checkpoint is not None:
            self._work.checkpoint.remove()
        self._shards.leave()

    def _encoder(self, documents: Sequence[Any]) -> Any:
        """Texts by the tokenizer, ids as they are; the first document says which."""
        return self._encoder_for(documents[0])(
            [Document(one) if isinstance(one, str) else one for one in documents]
        )

    def _encoder_for(self, document: Any) -> Encoder:
        if not isinstance(document, (str, Document)):
            return IdEncoder(self._limit, self._windows)
        if self._model.tokenizer is None:
            raise CommandError("tokenizer: texts need one; give tokenizer=, or documents as token ids")
        start = _start(self._model) if self._subject.two_sided else None
        return TextEncoder(self._model.tokenizer, self._limit, self._windows, start)

    def _agree(self, settings: dict[str, Any]) -> None:
        """Refuses to share work with processes that do something else."""
        for rank, other in enumerate(self._shards.gathered(settings)):
            differs = [key for key in settings if settings[key] != other.get(key)]
            if differs:
                raise CommandError(
                    f"process {rank} and process {self._shards.rank} differ in {', '.join(differs)}: "
                    "all must have the same model, corpus and options"
                )

    def _info(self, state: State, settings: dict[str, Any]) -> dict[str, Any]:
        if not state.documents:
            raise CommandError(f"there is nothing to measure: {self._why_nothing(state)}")
        return {
            "model": self._model.name,
            "documents": state.documents,
            "tokens": state.tokens,
            "notices": self._notices(state),
            "settings": settings,
        }

    def _why_nothing(self, state: State) -> str:
        if state.empty:
            return f"the {state.empty} documents of the corpus have no tokens"
        bad = self._documents.bad if isinstance(self._documents, Corpus) else 0
        return f"none of the {bad} documents could be read" if bad else "the corpus is empty"

    def _notices(self, state: State) -> list[str]:
        found = []
        if state.cut:
            found.append(f"{state.cut:,} documents were cut to {self._limit} tokens (--windows takes all)")
        if state.empty:
            found.append(f"{state.empty:,} documents without a token were passed over")
        if isinstance(self._documents, Corpus) and self._documents.bad:
            found.append(f"{self._documents.bad:,} documents could not be read and were passed over")
        if self._subject.two_sided and getattr(self._documents, "target", None) is None:
            found.append("the decoder read the same documents as the encoder; --target names other ones")
        if self._wish.unverified:
            found.append("calls that were not verified were measured, too")
        return found


def _begun(checkpoint: Checkpoint, resume: bool | None) -> State:
    if resume is False:
        checkpoint.restart()
        return State()
    state = checkpoint.load()
    if state is None and resume:
        raise CommandError(f"there is nothing to go on from: no {checkpoint.path}")
    return state or State()


def _loaded(model: str | nn.Module, tokenizer: Any, dtype: str) -> _Model:
    if not isinstance(model, str):
        config = getattr(model, "config", None)
        limit = None
        if tokenizer is not None and config is not None:
            from sightline.huggingface.load import position_limit

            limit = position_limit(config, tokenizer)
        name = getattr(config, "name_or_path", "") or type(model).__name__
        return _Model(str(name), model, tokenizer, limit)
    from sightline.huggingface.load import load_model

    found = load_model(None if model == DEFAULT else model, dtype, body=True)
    return _Model(found.name, found.model, tokenizer or found.tokenizer, found.limit)


def _start(model: _Model) -> int:
    """The id that a decoder's text begins with."""
    config = model.model.config
    for place, name in (
        (config, "decoder_start_token_id"),
        (model.tokenizer, "bos_token_id"),
        (model.tokenizer, "pad_token_id"),
    ):
        if isinstance(number := getattr(place, name, None), int):
            return number
    raise CommandError(f"the model {model.name} does not say with which token its decoder begins")
