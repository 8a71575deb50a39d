"""What a task is: how its data is read, what it learns from a batch, how well it does, what it answers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sightline.errors import CommandError
from sightline.models import Model
from sightline.tasks.recipe import Recipe
from sightline.view.source import read_source


@dataclass
class Data:
    """Examples of a task, in whatever form it has them.

    Attributes:
        train, valid: what is learnt from, and what early stopping looks at.
        test: read once, at the end; may be empty.
        notices: what the user ought to know: rows that were passed over, texts that were cut.
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

    def __post_init__(self) -> None:
        if len(self.columns) not in (0, 2):
            raise CommandError(
                f"--columns {','.join(self.columns)}: expected two names, such as text,label or source,target"
            )

    def refuse(self, task: str, *names: str) -> None:
        """For a task that has no use for an option.

        Raises:
            CommandError: it was given.
        """
        for name in names:
            if getattr(self, name):
                raise CommandError(f"--{name.replace('_', '-')}: {task} has no use for it; leave it out")

    def digest(self) -> str:
        """A hash of all that is read and how: another one is other data.

        Raises:
            CommandError: for a file that cannot be read.
        """
        digest = hashlib.sha256(repr((self.columns, self.encoding, self.skip_bad, self.fold)).encode())
        for path in (self.data, self.valid, self.test):
            digest.update(b"\0part")
            for file in [] if path is None else _files(path):
                try:
                    content = hashlib.sha256(file.read_bytes()).digest()
                except OSError as error:
                    raise CommandError(f"{file}: cannot be read: {error.strerror or error}") from None
                digest.update(file.name.encode() + content)
        return digest.hexdigest()[:32]


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]


class Task(ABC):
    """One application.

    Attributes:
        tokenizer, labels, settings: what the task must know to answer, set by ``read`` and kept with the
            model; settings are for JSON.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    recipe: ClassVar[Recipe]

    def __init__(self) -> None:
        self.tokenizer: Any = None
        self.labels: list[str] = []
        self.settings: dict[str, Any] = {}

    @abstractmethod
    def read(self, source: Source, recipe: Recipe) -> Data:
        """Read the data, train the tokenizer on its training part, and encode everything."""

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
        """What a batch weighs among others, so that their mean losses make the mean of all: its examples.

        Of a loss that is a mean of tokens it is their number.
        """
        return len(examples)

    @abstractmethod
    def evaluate(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> dict[str, float]:
        """Figures over examples, among them ``metric``."""

    def judge(self, model: Any, examples: Sequence[Any], recipe: Recipe) -> dict[str, float]:
        """The figures of a finished model: those of :meth:`evaluate`, and what takes longer to get."""
        return self.evaluate(model, examples, recipe)

    def inputs(self, argument: str) -> list[Any]:
        """What an argument of ``sightline run`` stands for: a text, the lines of a file, of standard input.

        Raises:
            CommandError: for a file that cannot be read.
        """
        text = read_source(argument)
        return [text] if text == argument else [line for line in text.splitlines() if line.strip()]

    def check(self, given: Any, at: int) -> None:
        """Whether an input makes sense.

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

    @abstractmethod
    def write_page(self, model: Any, given: Any, recipe: Recipe, path: Path) -> int:
        """Writes the explorer's page of what was attended to in an input; returns its bytes."""

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
