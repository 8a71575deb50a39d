"""A text from a text: a translation, a summary."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.models import EncoderDecoder, EncoderDecoderConfig
from sightline.reading.output import WROTE, written
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question, mean_log_probability
from sightline.tasks.looking import limit_of, look_at, shortened
from sightline.tasks.recipe import Recipe
from sightline.tasks.rows import read_rows
from sightline.tasks.splitting import fold, split
from sightline.tasks.task import Data, LookOptions, Seen, Source, Task, padded
from sightline.tasks.tokenizing import END, PAD, START, train_pieces

_VALID = 2000  # the most sources that validation takes
_WRITTEN = 64  # texts that are generated in one batch


class TextPair(NamedTuple):
    """Source and target as ids, and the target's text for the figures."""

    source: list[int]
    target: list[int]
    text: str


class PairTask(Task):
    """An encoder-decoder with one vocabulary for both sides.

    Attributes:
        called: what the answer is called.
        example: a source to begin with.
        beams, length_penalty, no_repeat: of the finished model's beam search.
    """

    columns: tuple[str, str]
    answer: str
    called: str
    example = "The cat sat on the mat."
    beams = 4
    length_penalty = 1.0
    no_repeat: int | None = None

    def read(self, source: Source, recipe: Any) -> Data:
        """Rows of (source, target); all targets of a source are in the same part."""
        source.refuse(self.name, "labels")
        rows = self._rows(source, source.data)
        notices = list(rows.bad)
        train, test = rows.rows, list[tuple[str, ...]]()
        if source.fold is not None:
            train, test = fold(train, *source.fold, recipe.seed, _source)
        if source.test is not None:
            test = self._rows(source, source.test).rows
        if source.valid is None:
            train, valid = split(train, recipe.seed, min(0.05, _VALID / len(train)), _source)
        else:
            valid = self._rows(source, source.valid).rows
        texts = (text for row in train for text in row)
        self.tokenizer = self.tokenizer_from(
            lambda: train_pieces(texts, recipe.vocabulary, lowercase=recipe.lowercase)
        )
        parts = [[self._encoded(row, recipe) for row in part] for part in (train, valid, test)]
        for side, name in ((0, "sources"), (1, "targets")):
            full = sum(len(pair[side]) == recipe.context for pair in parts[0])
            if full:
                notices.append(
                    f"{full} {name} fill the context of {recipe.context} tokens; longer ones are cut"
                )
        return Data(parts[0], parts[1], parts[2], notices)

    def _rows(self, source: Source, path: Any) -> Any:
        columns = source.columns or self.columns
        return read_rows(
            path, columns, named=bool(source.columns), skip_bad=source.skip_bad, encoding=source.encoding
        )

    def _encoded(self, row: tuple[str, ...], recipe: Recipe) -> TextPair:
        source, target = row
        end = self.tokenizer.token_to_id(END)
        ids = self.tokenizer.encode(target).ids[: recipe.context - 1]
        return TextPair(self.ids_of(source, recipe.context), [*ids, end], target)

    def ids_of(self, text: str, context: int) -> list[int]:
        """A source as ids with the end token, at most ``context`` of them."""
        return [*self.tokenizer.encode(text).ids[: context - 1], self.tokenizer.token_to_id(END)]

    def build(self, recipe: Any) -> EncoderDecoder:
        """Pre-norm, sinusoidal positions."""
        pad, start, end = (self.tokenizer.token_to_id(token) for token in (PAD, START, END))
        return EncoderDecoder(
            EncoderDecoderConfig(
                width=recipe.width, layers=recipe.layers, heads=recipe.heads, dropout=recipe.dropout,
                hidden=recipe.hidden or None, decoder_layers=recipe.decoder_layers or None,
                vocabulary=self.tokenizer.get_vocab_size(), max_positions=recipe.context,
                positions="sinusoidal", embedding_scale=True, copying=recipe.copying,
                pad=pad, start=start, end=end,
            )
        )  # fmt: skip

    def size(self, example: TextPair) -> int:
        """Tokens of the longer side."""
        return max(len(example.source), len(example.target))

    def loss(self, model: EncoderDecoder, examples: Sequence[TextPair], recipe: Recipe) -> Tensor:
        """Cross-entropy of the target's tokens."""
        total, count = self._nll(model, examples, recipe.smoothing)
        return total / count

    def weight(self, examples: Sequence[TextPair]) -> float:
        """Tokens of the targets."""
        return sum(len(pair.target) for pair in examples)

    def _nll(
        self, model: EncoderDecoder, examples: Sequence[TextPair], smoothing: float
    ) -> tuple[Tensor, int]:
        pad = model.config.pad
        assert pad is not None
        source, lengths = padded([pair.source for pair in examples], pad)
        target, own = padded([pair.target for pair in examples], pad)
        wanted = torch.arange(target.shape[1]) < own[:, None]
        logits = model(source, model.shifted(target), source_lengths=lengths, wanted=wanted).float()
        log_p = logits if model.config.copying else logits.log_softmax(-1)
        loss = F.nll_loss(log_p, target[wanted].to(log_p.device), reduction="sum")
        if smoothing:
            loss = (1 - smoothing) * loss - smoothing * log_p.mean(-1).sum()
        return loss, int(own.sum())

    def evaluate(
        self, model: EncoderDecoder, examples: Sequence[TextPair], recipe: Recipe
    ) -> dict[str, float]:
        """The mean loss of a token, in nats."""
        return {"loss": self._mean_loss(model, examples)}

    def _mean_loss(self, model: EncoderDecoder, examples: Sequence[TextPair]) -> float:
        total, count = 0.0, 0
        for start in range(0, len(examples), 100):
            loss, tokens = self._nll(model, examples[start : start + 100], 0.0)
            total, count = total + float(loss), count + tokens
        return total / count

    def judge(self, model: EncoderDecoder, examples: Sequence[TextPair], recipe: Recipe) -> dict[str, float]:
        """The loss, and how close the model's texts are to the targets."""
        figures = self.written_figures(model, examples, recipe.context - 1, self.beams)
        return {"loss": self._mean_loss(model, examples)} | figures

    def written_figures(
        self, model: EncoderDecoder, examples: Sequence[TextPair], new_tokens: int, beams: int
    ) -> dict[str, float]:
        """How close the model's texts are to the targets; a source with several targets is generated once."""
        texts: dict[tuple[int, ...], list[str]] = {}
        for pair in sorted(examples, key=lambda pair: len(pair.source)):  # those of like length share a batch
            texts.setdefault(tuple(pair.source), []).append(pair.text)
        sources, written = [list(ids) for ids in texts], list[str]()
        for start in range(0, len(sources), _WRITTEN):
            written += self.write(model, sources[start : start + _WRITTEN], new_tokens, beams)
        return self.compare(written, list(texts.values()))

    @abstractmethod
    def compare(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Figures of texts, each against one or more references."""

    def write(
        self, model: EncoderDecoder, sources: Sequence[list[int]], new_tokens: int, beams: int
    ) -> list[str]:
        """The model's texts for sources, by beam search."""
        return [self.text_of(ids) for ids in self._written(model, sources, new_tokens, beams)]

    def _written(
        self, model: EncoderDecoder, sources: Sequence[list[int]], new_tokens: int, beams: int
    ) -> list[list[int]]:
        assert model.config.pad is not None
        ids, lengths = padded(sources, model.config.pad)
        written = model.generate(
            ids.to(model.device),
            source_lengths=None if lengths is None else lengths.to(model.device),
            new_tokens=new_tokens,
            beams=beams,
            length_penalty=self.length_penalty,
            no_repeat=self.no_repeat,
        )
        return written.lists()

    def text_of(self, ids: Sequence[int]) -> str:
        """Ids as a text."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()

    def answers(
        self, model: EncoderDecoder, inputs: Sequence[str], recipe: Recipe, options: dict[str, Any]
    ) -> list[Any]:
        """{:attr:`answer`: text} for each source.

        Raises:
            CommandError: for a source longer than the context, unless ``truncation``.
        """
        if not options.get("truncation", False):
            for text in inputs:
                self._fits(text, recipe.context)
        sources = [self.ids_of(text, recipe.context) for text in inputs]
        written = self.write(model, sources, options.get("new_tokens", recipe.context - 1), self.beams)
        return [{self.answer: text} for text in written]

    def _fits(self, text: str, context: int) -> None:
        size = len(self.tokenizer.encode(text).ids) + 1
        if size > context:
            start = text if len(text) <= 40 else text[:39] + "…"
            raise CommandError(
                f"input {start!r} has {size} tokens, and the model reads {context}; split it, or "
                f"truncation=True (--truncate) reads its beginning"
            )

    def runnable(self, model: EncoderDecoder, recipe: Recipe, name: str) -> Runnable:
        """An encoder-decoder that writes by beam search."""
        return Runnable(
            model, self.tokenizer, name, "text", self.called, recipe.context, beams=self.beams,
            length_penalty=self.length_penalty, no_repeat=self.no_repeat, new_tokens=recipe.context - 1,
            example=self.example,
        )  # fmt: skip

    def look(self, model: EncoderDecoder, given: str, recipe: Recipe, options: LookOptions) -> Seen:
        """A source, its target, and what the target attended to."""
        limit, whose = limit_of(recipe.context, options)
        end = self.tokenizer.token_to_id(END)
        source, notices = shortened(self.tokenizer.encode(given).ids, limit - 1 or 1, "the source", whose)
        source = [*source, end]
        if options.target is None:
            (target,) = self._written(model, [source], limit, self.beams)
            text = self.text_of(target)
            notices += (WROTE,)
        else:
            text = options.target
            target, cut = shortened(self.tokenizer.encode(text).ids, limit, "the target", whose)
            notices += cut
        assert model.config.start is not None
        trace, tokens, _ = look_at(model, self.tokenizer, source, [model.config.start, *target])
        output = written(self.answer.removesuffix("_text"), text, given=options.target is not None)
        return Seen(trace, (given, text), tokens, notices, output)

    def question(
        self, model: EncoderDecoder, given: str, recipe: Recipe, target: str | None = None
    ) -> Question:
        """The mean log-probability of what it writes, or of a given target; tokens are the source's."""
        seen = self.look(model, given, recipe, LookOptions(target, None))
        assert seen.tokens is not None
        end, start = self.tokenizer.token_to_id(END), model.config.start
        source = [self.tokenizer.token_to_id(token) for token in seen.tokens[0]]
        written = [self.tokenizer.token_to_id(token) for token in seen.tokens[1]][1:]
        if not written or written[-1] != end:
            written = [*written, end]
        assert start is not None
        inputs = (torch.tensor([source]), torch.tensor([[start, *written[:-1]]]))
        ids = torch.tensor([written], device=model.device)
        return Question(
            model,
            inputs,
            lambda logits: mean_log_probability(logits, ids),
            tuple(seen.tokens[0]),
            f"mean log-probability of {seen.texts[1]!r}",
            seen.notices,
        )


def _source(row: tuple[str, ...]) -> str:
    return row[0]
