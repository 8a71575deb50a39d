"""Text classification: one of a few labels for a text, such as whether a review is positive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.models import Encoder, EncoderConfig
from sightline.reading.output import likeliest
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question
from sightline.tasks.looking import limit_of, look_at, shortened
from sightline.tasks.recipe import Recipe
from sightline.tasks.rows import DataError, Rows, read_label_folder, read_rows
from sightline.tasks.splitting import fold, split
from sightline.tasks.task import Data, LookOptions, Seen, Source, Task, padded
from sightline.tasks.tokenizing import PAD, UNKNOWN, train_words


@dataclass(frozen=True, kw_only=True)
class SentimentRecipe(Recipe):
    """Settings of a run on labelled texts.

    Attributes:
        hide: share of tokens that are replaced by the unknown token in training.
        hide_beyond: how many of the most frequent tokens ("not", "but") are never hidden.
    """

    hide: float = 0.0
    hide_beyond: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_share("hide")
        self.check_least(0, "hide_beyond")


class LabelledText(NamedTuple):
    """A text as ids, and its label's number."""

    ids: list[int]
    label: int


class Sentiment(Task):
    """An encoder over words, the mean of its states, one logit for each label."""

    name = "sentiment"
    metric = "accuracy"
    recipe = SentimentRecipe(
        width=128, layers=1, heads=4, dropout=0.5, vocabulary=20_000, context=64, epochs=12, patience=4,
        batch=50, rate=1e-3, decay=0.05, smoothing=0.1, hide=0.2, average=0.99,
    )  # fmt: skip

    def read(self, source: Source, recipe: Any) -> Data:
        """(text, label) rows, or a folder with a text file for each label."""
        source.refuse(self.name, "labels")
        rows = self._rows(source, source.data)
        self.labels = sorted({label for _, label in rows.rows})
        if len(self.labels) < 2:
            raise DataError(f"{source.data}: all texts have the label {self.labels[0]!r}; two are needed")
        train, test = rows.rows, list[tuple[str, ...]]()
        if source.fold is not None:
            train, test = fold(rows.rows, *source.fold, recipe.seed)
        if source.test is not None:
            test = self._rows(source, source.test).rows
        if source.valid is not None:
            valid = self._rows(source, source.valid).rows
        else:
            train, valid = split(train, recipe.seed)
        texts = [text for text, _ in train]
        self.tokenizer = self.tokenizer_from(lambda: train_words(texts, recipe.vocabulary))
        parts = [[self._encoded(row, recipe) for row in part] for part in (train, valid, test)]
        counted = Counter(token for example in parts[0] for token in example.ids)
        self.frequent = torch.tensor([token for token, _ in counted.most_common(recipe.hide_beyond)])
        full = sum(len(example.ids) == recipe.context for example in parts[0])
        cut = (
            [f"{full} texts fill the context of {recipe.context} tokens; longer ones are cut"] if full else []
        )
        return Data(parts[0], parts[1], parts[2], [*rows.bad, *cut])

    def _rows(self, source: Source, path: Any) -> Rows:
        if path.is_dir():
            return read_label_folder(path, skip_bad=source.skip_bad, encoding=source.encoding)
        columns = source.columns or ("text", "label")
        return read_rows(
            path, columns, named=bool(source.columns), skip_bad=source.skip_bad, encoding=source.encoding
        )

    def _encoded(self, row: tuple[str, ...], recipe: Recipe) -> LabelledText:
        text, label = row
        if label not in self.labels:
            raise DataError(f"label {label!r} is not among those of the training data: {self.labels}")
        return LabelledText(self.ids_of(text, recipe.context), self.labels.index(label))

    def ids_of(self, text: str, context: int) -> list[int]:
        """A text as ids, at least one and at most ``context``."""
        return self.tokenizer.encode(text).ids[:context] or [self.tokenizer.token_to_id(PAD)]

    def windows_of(self, text: str, context: int) -> list[list[int]]:
        """The whole text, in windows of at most ``context`` ids."""
        ids = self.tokenizer.encode(text).ids or [self.tokenizer.token_to_id(PAD)]
        return [ids[at : at + context] for at in range(0, len(ids), context)]

    def build(self, recipe: Recipe) -> Encoder:
        """An encoder with a classification head."""
        return Encoder(
            EncoderConfig(
                width=recipe.width, layers=recipe.layers, heads=recipe.heads, dropout=recipe.dropout,
                hidden=recipe.hidden or None,
                vocabulary=self.tokenizer.get_vocab_size(), max_positions=recipe.context,
                head="classification", classes=len(self.labels), pad=0,
            )
        )  # fmt: skip

    def size(self, example: LabelledText) -> int:
        """Tokens."""
        return len(example.ids)

    def loss(self, model: Encoder, examples: Sequence[LabelledText], recipe: Any) -> Tensor:
        """Cross-entropy of the labels."""
        logits, labels = self._logits(model, examples, recipe.hide)
        return F.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)

    def evaluate(self, model: Encoder, examples: Sequence[LabelledText], recipe: Recipe) -> dict[str, float]:
        """Accuracy, as a share, and the loss."""
        right, loss = 0, 0.0
        for start in range(0, len(examples), 200):
            logits, labels = self._logits(model, examples[start : start + 200])
            right += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
        return {"accuracy": right / len(examples), "loss": loss / len(examples)}

    def answers(
        self, model: Encoder, inputs: Sequence[str], recipe: Recipe, options: dict[str, Any]
    ) -> list[Any]:
        """{"label", "score"}; of a longer text every window is read and weighted by its tokens."""
        windows = [self.windows_of(text, recipe.context) for text in inputs]
        ids, lengths = padded([window for each in windows for window in each], 0)
        scores = model(ids, lengths=lengths).softmax(-1).cpu()
        of_texts = [len(each) for each in windows]
        weighed = (scores * lengths[:, None]).split(of_texts)
        answers = []
        for part, own in zip(weighed, lengths.split(of_texts), strict=True):
            score, at = (part.sum(0) / own.sum()).max(0)
            answers.append({"label": self.labels[int(at)], "score": float(score)})
        return answers

    def runnable(self, model: Encoder, recipe: Recipe, name: str) -> Runnable:
        """An encoder that names a label."""
        return Runnable(
            model, self.tokenizer, name, "label", "label", recipe.context, tuple(self.labels),
            example="A warm and funny film.",
        )  # fmt: skip

    def look(self, model: Encoder, given: str, recipe: Recipe, options: LookOptions) -> Seen:
        """The text's beginning, up to the context."""
        options.refuse_target(self.name)
        limit, whose = limit_of(recipe.context, options)
        ids, notices = shortened(self.tokenizer.encode(given).ids, limit, "the text", whose)
        trace, tokens, logits = look_at(model, self.tokenizer, ids)
        output = likeliest("label", "label", logits[0].softmax(-1), self.labels)
        return Seen(trace, (given,), tokens, notices, output)

    def question(self, model: Encoder, given: str, recipe: Recipe, target: str | None = None) -> Question:
        """The probability of the label that the text's beginning gets, or of the one that is given."""
        encoded = self.tokenizer.encode(given)
        ids, notices = shortened(encoded.ids, recipe.context, "the text", "the model's limit")
        inputs = torch.tensor([ids])
        with torch.no_grad():
            at = int(model(inputs)[0].argmax())
        if target is not None:
            if target not in self.labels:
                raise CommandError(f"label {target!r}: there are {', '.join(self.labels)}")
            at = self.labels.index(target)
        return Question(
            model,
            inputs,
            lambda logits: logits.double().softmax(-1)[:, at].mean(),
            tuple(encoded.tokens[: len(ids)]),
            f"probability of {self.labels[at]!r}",
            notices,
        )

    def _logits(
        self, model: Encoder, examples: Sequence[LabelledText], hide: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        ids, lengths = padded([example.ids for example in examples], 0)
        if hide:
            hidden = (torch.rand(ids.shape) < hide) & ~torch.isin(ids, self.frequent)
            ids = ids.masked_fill(hidden, self.tokenizer.token_to_id(UNKNOWN))
        logits = model(ids, lengths=lengths)
        return logits, torch.tensor([example.label for example in examples], device=logits.device)
