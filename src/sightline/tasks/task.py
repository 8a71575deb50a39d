"""What a task is: how its data is read, what it learns from a batch, how well it does, what it answers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.models import Model
from sightline.reading.output import Output
from sightline.reading.runnable import Runnable
from sightline.reading.source import read_source
from sightline.removing.question import Question
from sightline.tasks.recipe import Recipe
from sightline.tasks.starting import Start


@dataclass
class Data:
    """Examples of a task, in whatever form it has them.

    Attributes:
        train, valid: what the model learns from, and what early stopping measures.
        test: read once, at the end; may be empty.
        notices: what the user ought to know: rows that were skipped, texts that were cut.
    """

    train: list[Any]
    valid: list[Any]
    test: list[Any] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Where the data of a run lies, and how to read it.

    Raises:
        CommandError: for other than two columns.
    """

    data: Path
    valid: Path | None = None
    test: Path | None = None
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    skip_bad: bool = False
    fold: tuple[int, int] | None = None
    labels: Path | None = None

    def __post_init__(self) -> None:
        if len(self.columns) not in (0, 2):
            raise CommandError(
                f"--columns {','.join(self.columns)}: expected two names, such as text,label or source,target"
            )

    def refuse(self, task: str, *names: str) -> None:
        """Raises if options were given for which a task has no use.

        Raises:
            CommandError: it was given.
        """
        for name in names:
            if getattr(self, name):
                raise CommandError(f"--{name.replace('_', '-')}: {task} has no use for it; leave it out")

    def digest(self) -> str:
        """A hash of all that is read and how; it differs for different data.

        Raises:
            CommandError: for a file that cannot be read.
        """
        digest = hashlib.sha256(repr((self.columns, self.encoding, self.skip_bad, self.fold)).encode())
        for path in (self.data, self.valid, self.test, self.labels):
            digest.update(b"\0part")
            for name, file in [] if path is None else _files(path):
                try:
                    content = hashlib.sha256(file.read_bytes()).digest()
                except OSError as error:
                    raise CommandError(f"{file}: cannot be read: {error.strerror or error}") from None
                digest.update(name.encode() + content)
        return digest.hexdigest()[:32]


def _files(path: Path) -> list[tuple[str, Path]]:
    """A file, or all files below a folder, with names that do not depend on its location."""
    if not path.is_dir():
        return [(path.name, path)]
    return sorted((str(each.relative_to(path)), each) for each in path.rglob("*") if each.is_file())


class LookOptions(NamedTuple):
    """How an input is to be looked at.

    Attributes:
        target: the translation or summary to assume. Default: what the model writes.
        limit: the most tokens of a text. Default: as many as the model takes.
    """

    target: str | None = None
    limit: int | None = None

    def refuse_target(self, task: str) -> None:
        """Raises if a target was given to a task without targets.

        Raises:
            CommandError: one was given.
        """
        if self.target is not None:
            raise CommandError(f"a model of {task} reads one text; leave out the second")


class Seen(NamedTuple):
    """What a model attended to in an input.

    Attributes:
        trace: its calls.
        texts: the input, and what was written for it.
        tokens: strings of the positions, a list for each side; None where they have none.
        notices: what the user ought to know of it.
        output: what the model made of it.
    """

    trace: Any
    texts: tuple[str, ...]
    tokens: list[list[str]] | None = None
    notices: tuple[str, ...] = ()
    output: Output | None = None


class Task(ABC):
    """One application.

    Attributes:
        tokenizer, labels, settings: what the task must know to answer, set by ``read`` and kept with the
            model; settings are for JSON.
        start: the trained model that a run starts with, if any.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    tokenized: ClassVar[bool] = True  # whether its models have a tokenizer
    recipe: ClassVar[Recipe]

    def __init__(self) -> None:
        self.tokenizer: Any = None
        self.labels: list[str] = []
        self.settings: dict[str, Any] = {}
        self.start: Start | None = None

    @abstractmethod
    def read(self, source: Source, recipe: Recipe) -> Data:
        """Read the data, train the tokenizer on its training part, and encode everything."""

    def tokenizer_from(self, train: Callable[[], Any]) -> Any:
        """The tokenizer of the model that the run starts with; else the one that ``train`` makes."""
        return train() if self.start is None else self.start.tokenizer

    @abstractmethod
    def build(self, recipe: Recipe) -> Model:
        """A fresh model for the data that was read."""

    @abstractmethod
    def size(self, example: Any) -> int:
        """How long an example is, so that those of like length share a batch."""

    @abstractmethod
    def loss(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> Tensor:
        """The mean loss of a batch."""

    def weight(self, examples: Sequence[Any]) -> float:
        """The weight of a batch's mean loss in the mean of all batches: its number of examples.

        For a loss that is a mean over tokens it is their number.
        """
        return len(examples)

    @abstractmethod
    def evaluate(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> dict[str, float]:
        """Figures over examples, among them ``metric`` and ``loss``."""

    def judge(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> dict[str, float]:
        """The figures of a finished model: those of :meth:`evaluate`, and slower ones."""
        return self.evaluate(model, examples, recipe)

    def settle(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> None:  # noqa: B027
        """Tunes on the validation examples what answers depend on besides weights. Default: nothing."""

    def inputs(self, argument: str) -> list[Any]:
        """What an argument of ``sightline run`` stands for: a text, the lines of a file, of standard input.

        Raises:
            CommandError: for a file that cannot be read.
        """
        text = read_source(argument)
        return [text] if text == argument else [line for line in text.splitlines() if line.strip()]

    def check(self, given: Any, at: int) -> None:
        """Checks that an input makes sense.

        Raises:
            CommandError: it does not.
        """
        if not isinstance(given, str) or not given.strip():
            raise CommandError(
                f"input {at} is " + ("empty" if isinstance(given, str) else f"no text: {given!r}")
            )

    @abstractmethod
    def answers(
        self, model: Any, inputs: Sequence[Any], recipe: Recipe, options: dict[str, Any]
    ) -> list[Any]:
        """What a Hugging Face pipeline of this kind answers to each input."""

    def together(self, answers: list[Any], alone: bool) -> Any:
        """Answers in the shape that Hugging Face gives them, to one input ``alone`` or to a list."""
        return answers

    @abstractmethod
    def look(self, model: Any, given: Any, recipe: Recipe, options: LookOptions) -> Seen:
        """Runs the model over an input, and keeps what it attended to.

        Raises:
            CommandError: for a target where the task has none.
        """

    def question(self, model: Any, given: Any, recipe: Recipe, target: str | None = None) -> Question:
        """What :func:`sightline.effects` asks of an input: the model's own answer to it, as a number.

        Raises:
            CommandError: the task has none.
        """
        raise CommandError(f"{self.name} has no answer that is a number: give a model, inputs and a metric")

    def runnable(self, model: Any, recipe: Recipe, name: str) -> Runnable:
        """The model as a page runs it; ``name`` is what to call it.

        Raises:
            CommandError: the task's inputs are no texts.
        """
        raise CommandError(f"a model of {self.name} reads no texts: a page runs models that do")

    def epoch(self, examples: list[Any], generator: torch.Generator) -> list[Any]:
        """The examples of one pass; drawn anew where a task has more than it can show at once."""
        return examples


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """([B,N] ids filled up on the right, [B] lengths)."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), pad)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    return ids, lengths
