"""A model that reads texts for the page, one at a time, in a thread; shows progress and can be stopped."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

from torch import nn

from sightline.common.errors import CommandError
from sightline.interventions.written import WrittenChange
from sightline.reading.opened import OpenedModel
from sightline.reading.reading import Reading
from sightline.tracing import trace
from sightline.view.server.cancel import StoppedError
from sightline.view.server.catalogue import OpenTrace, open_reading
from sightline.view.server.ran import Asked, Ran
from sightline.view.server.whatif import changed, effects_of_heads

_KEPT = 64  # jobs whose state is kept
_WAITING = 4  # readings that may be queued


class TooManyError(Exception):
    """Too many readings are waiting."""


@dataclass
class ReadJob:
    """One reading, or another: its progress and its result, a trace or what else was asked."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    share: float = 0.0
    what: str = "waiting"
    trace: str | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    cancel: Event = field(default_factory=Event)

    @property
    def done(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.trace is not None or self.result is not None or self.error is not None

    def check(self) -> None:
        """Raises StoppedError once it is cancelled."""
        if self.cancel.is_set():
            raise StoppedError

    def about(self) -> dict[str, Any]:
        """Its state, for the page."""
        told = {"share": self.share, "what": self.what, "trace": self.trace, "error": self.error}
        return told if self.result is None else {**told, "result": self.result}


class Reader:
    """Runs a model over texts.

    Args:
        model: its name or folder; ``None`` for the default model.
        open_model: opens it, when the first text comes.
        take: receives every reading, as an open trace.
        max_tokens: the most tokens of a text that are used.
    """

    def __init__(
        self,
        model: str | None,
        open_model: Callable[[str | None], OpenedModel],
        take: Callable[[OpenTrace], None],
        max_tokens: int | None = None,
    ) -> None:
        self.model, self.open_model, self.take, self.max_tokens = model, open_model, take, max_tokens
        self._opened: OpenedModel | None = None
        self._jobs: OrderedDict[str, ReadJob] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "reader")

    def start(self, text: str, pair: str | None) -> ReadJob:
        """Read a text, and a pair or a target, in the background.

        Raises:
            TooManyError: when too many are waiting.
        """
        return self._start(lambda job: self._take(job, text, pair))

    def what_if(self, base: OpenTrace, changes: Sequence[WrittenChange]) -> ReadJob:
        """Read the text of a trace again with changes, in the background.

        Raises:
            TooManyError: when too many are waiting.
        """
        return self._start(lambda job: self._change(job, base, changes))

    def effects(self, base: OpenTrace) -> ReadJob:
        """Find out what each head does to the answer, in the background.

        Raises:
            TooManyError: when too many are waiting.
        """
        return self._start(lambda job: self._remove(job, base))

    def _start(self, work: Callable[[ReadJob], None]) -> ReadJob:
        if sum(not job.done for job in self._jobs.values()) >= _WAITING:
            raise TooManyError
        job = ReadJob()
        self._jobs[job.id] = job
        while len(self._jobs) > _KEPT:
            self._jobs.popitem(last=False)
        self._thread.submit(self._run, job, work)
        return job

    def find(self, name: str) -> ReadJob | None:
        """The job of that id."""
        return self._jobs.get(name)

    def stop(self) -> None:
        """Ends every job."""
        for job in self._jobs.values():
            job.cancel.set()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def read_now(self, text: str, pair: str | None = None, offload: str | None = None) -> OpenTrace:
        """Read a text in this thread; ``offload="disk"`` keeps queries, keys and values in mapped files.

        Raises:
            CommandError: the model cannot be loaded, or does not take the text.
        """
        if offload is None:
            return self._opened_trace(ReadJob(), text, pair)
        opened = self._load(ReadJob())
        if opened.encoder_decoder:
            raise CommandError("--offload: not for models with a decoder of their own; leave it out")
        with trace(opened.model, offload=offload) as caught:
            reading = self._read(ReadJob(), text, pair)
        section = reading.sections[0]
        kept = replace(section, layers=tuple(call.matrix for call in caught))
        return open_reading(replace(reading, sections=(kept,)), _title(reading))

    def _run(self, job: ReadJob, work: Callable[[ReadJob], None]) -> None:
        try:
            job.check()
            work(job)
        except StoppedError:
            job.error = "The reading was stopped."
        except CommandError as error:
            job.error = str(error)
        except Exception as error:  # whatever a model raises must reach the page
            job.error = f"{type(error).__name__}: {error}"

    def _take(self, job: ReadJob, text: str, pair: str | None) -> None:
        opened = self._opened_trace(job, text, pair)
        opened.about()  # which head to show first is found here, not while the page waits
        job.check()
        self.take(opened)
        job.share, job.trace = 1.0, opened.id

    def _opened_trace(self, job: ReadJob, text: str, pair: str | None) -> OpenTrace:
        """A reading that can be asked what if."""
        with _last_call(self._load(job).model) as ran:
            reading = self._read(job, text, pair)
        opened = open_reading(reading, _title(reading))
        if ran:
            target = reading.texts[1] if self._load(job).encoder_decoder else None
            opened.asked = Asked(text, target, ran[-1])
        return opened

    def _change(self, job: ReadJob, base: OpenTrace, changes: Sequence[WrittenChange]) -> None:
        opened = self._load(job)
        job.what = f"{opened.name} reads again"
        with _watched(opened.answering().model, job):
            made, before, after = changed(opened, base, changes, job.check)
        made.about()
        job.check()
        self.take(made)
        job.share, job.result = 1.0, {"trace": made.id, "before": before.as_data(), "after": after.as_data()}

    def _remove(self, job: ReadJob, base: OpenTrace) -> None:
        opened = self._load(job)
        job.what = "each head is taken away"

        def progress(done: int, total: int) -> None:
            job.check()
            job.share = 0.98 * done / total

        found = effects_of_heads(opened, base, progress)
        job.share, job.result = 1.0, found

    def _read(self, job: ReadJob, text: str, pair: str | None) -> Reading:
        job.check()
        opened = self._load(job)
        job.what = f"{opened.name} reads"
        with _watched(opened.model, job):
            return opened.read(text, pair, self.max_tokens)

    def _load(self, job: ReadJob) -> OpenedModel:
        if self._opened is None:
            job.what = f"loading {self.model or 'the default model'}"
            self._opened = self.open_model(self.model)
        return self._opened


@contextmanager
def _watched(model: nn.Module, job: ReadJob) -> Iterator[None]:
    """Counts modules as they run, and stops between two of them once the job is cancelled."""
    modules = list(model.modules())
    ran = 0

    def count(*_: Any) -> None:
        nonlocal ran
        ran += 1
        job.share = min(0.95, ran / len(modules))
        if job.cancel.is_set():
            raise StoppedError

    with ExitStack() as hooks:
        for module in modules:
            hooks.callback(module.register_forward_pre_hook(count).remove)
        yield


@contextmanager
def _last_call(model: nn.Module) -> Iterator[list[Ran]]:
    """Notes the arguments of the model's calls in the block."""
    ran: list[Ran] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ran[:] = [Ran(args, dict(kwargs))]

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield ran


def _title(reading: Reading) -> str:
    words = " ".join(" ".join(reading.texts).split()) or reading.model
    return words if len(words) <= 48 else words[:47] + "…"
