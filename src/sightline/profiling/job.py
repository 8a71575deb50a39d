"""One profile from beginning to end: what Python and the command line have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sightline.call.info import info
from sightline.common.errors import CommandError
from sightline.profiling.batches import DocumentEncoder, EncodedDocument
from sightline.profiling.checkpoint import Checkpoint
from sightline.profiling.corpus import Corpus, Document
from sightline.profiling.counted_rows import counted_rows
from sightline.profiling.encoders import IdEncoder, TextEncoder
from sightline.profiling.options import ProfileOptions
from sightline.profiling.plan import ProfilePlan
from sightline.profiling.profiled_model import ProfiledModel
from sightline.profiling.run import ProfileProgress, ShardRun
from sightline.profiling.shards import Shards
from sightline.profiling.state import State
from sightline.profiling.table import Profile


class ProfileJob:
    """A profile to be made.

    Args:
        model: the model.
        documents: a corpus; or texts, or token ids.
        options: what is measured, and on how much of the corpus.
        shards: this process among others; default: as ``torchrun`` started it.
    """

    def __init__(
        self,
        model: ProfiledModel,
        documents: Corpus | Iterable[Any],
        options: ProfileOptions,
        shards: Shards | None = None,
    ) -> None:
        self._model, self._documents = model, documents
        self._corpus = documents if isinstance(documents, Corpus) else None
        self._shards = shards or Shards.joined()
        self._plan = ProfilePlan.of(options, model)
        self._checkpoint: Checkpoint | None = None
        self._state = State()

    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on, by the name of the option that sets it."""
        facts = info()
        return {
            "model": self._model.identity(),
            **(_NO_CORPUS if self._corpus is None else self._corpus.settings()),
            **self._plan.settings(),
            "dtype": self._model.dtype,
            "threads": facts["threads"],
            "instructions": facts.get("level active"),
            "sightline": facts["sightline"],
            "torch": facts["torch"],
            "transformers": getattr(sys.modules.get("transformers"), "__version__", None),
        }

    def run(
        self,
        checkpoint: Path | None = None,
        resume: bool | None = None,
        progress: Callable[[ProfileProgress], None] | None = None,
    ) -> Profile:
        """Measures, together with the other shards if there are any; each of them gets the whole profile.

        Raises:
            Interrupted, CommandError: as :func:`sightline.profile`.
        """
        settings = self.settings()
        self._check_agreement(settings)
        if checkpoint is not None:
            self._checkpoint = Checkpoint(checkpoint, settings, self._shards.rank, self._shards.world)
            self._state = _initial_state(self._checkpoint, resume)
        run = ShardRun(
            self._model, self._encode, self._plan, self._state, self._shards, self._checkpoint, progress
        )
        run.run(self._documents)
        whole = State()
        for part in self._shards.gather(self._state.to_json()):
            whole.add_json(part)
        if not whole.documents:
            raise CommandError(f"there is nothing to measure: {self._why_nothing(whole)}")
        return Profile(counted_rows(whole), self._facts(whole, settings))

    def done(self) -> None:
        """Deletes the checkpoint, once the profile is where it should be."""
        self._shards.gather(None)
        if self._checkpoint is not None:
            self._checkpoint.remove()
        self._shards.leave()

    def _encode(self, documents: Sequence[Any]) -> list[EncodedDocument]:
        """Texts by the tokenizer, ids as they are; the first document decides which."""
        encoder = self._encoder_for(documents[0])
        return encoder([Document(one) if isinstance(one, str) else one for one in documents])

    def _encoder_for(self, document: Any) -> DocumentEncoder:
        plan, tokenizer = self._plan, self._model.tokenizer
        if not isinstance(document, str | Document):
            return IdEncoder(plan.max_tokens, plan.windows)
        if tokenizer is None:
            raise CommandError("tokenizer: texts need one; give tokenizer=, or documents as token ids")
        start = self._model.first_target_id() if self._model.two_sided else None
        return TextEncoder(tokenizer, plan.max_tokens, plan.windows, start)

    def _check_agreement(self, settings: dict[str, Any]) -> None:
        """Raises unless all processes do the same."""
        for rank, other in enumerate(self._shards.gather(settings)):
            differing = [key for key in settings if settings[key] != other.get(key)]
            if differing:
                raise CommandError(
                    f"process {rank} and process {self._shards.rank} differ in {', '.join(differing)}: "
                    "all must have the same model, corpus and options"
                )

    def _facts(self, state: State, settings: dict[str, Any]) -> dict[str, Any]:
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
        bad = self._corpus.bad if self._corpus is not None else 0
        return f"none of the {bad} documents could be read" if bad else "the corpus is empty"

    def _notices(self, state: State) -> list[str]:
        notices = []
        if state.cut:
            most = self._plan.max_tokens
            notices.append(f"{state.cut:,} documents were cut to {most} tokens (--windows takes all)")
        if state.empty:
            notices.append(f"{state.empty:,} documents without a token were passed over")
        if self._corpus is not None and self._corpus.bad:
            notices.append(f"{self._corpus.bad:,} documents could not be read and were passed over")
        if self._model.two_sided and getattr(self._corpus, "target", None) is None:
            notices.append("the decoder read the same documents as the encoder; --target names others")
        if self._plan.unverified:
            notices.append("calls that were not verified were measured, too")
        return notices


_NO_CORPUS = {
    "corpus": "given in Python", "split": None, "field": None, "target": None, "skip-bad": None,
}  # fmt: skip


def _initial_state(checkpoint: Checkpoint, resume: bool | None) -> State:
    """Where to start: at the checkpoint if there is one and it is wanted."""
    if resume is False:
        checkpoint.restart()
        return State()
    state = checkpoint.load()
    if state is None and resume:
        raise CommandError(f"there is nothing to continue: no {checkpoint.path}")
    return state or State()
