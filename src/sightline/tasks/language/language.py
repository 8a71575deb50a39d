"""Language modelling: the next token after everything before it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.models import Decoder, DecoderConfig
from sightline.reading.lens import names_of_vocabulary
from sightline.reading.output import Output, likeliest
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question
from sightline.tasks.language.recipe import LanguageRecipe
from sightline.tasks.language.windows import Window, by_length, drawn_windows
from sightline.tasks.looking import limit_of, look_at, shortened
from sightline.tasks.rows import DataError
from sightline.tasks.task import Data, LookOptions, Seen, Source, Task
from sightline.tasks.tokenizing import train_bytes, train_characters

_MEASURED = 16_384  # tokens whose logits are in memory at once when a model is measured
CHARACTERS = 512  # up to this vocabulary size every character is a token
_NO_REPEAT = 4  # word pieces: the likeliest text would come back to the same words for ever
_END = 80  # tokens of a text's end that are told before the next


class Language(Task):
    """A decoder over a stream of text, cut into windows that may begin anywhere."""

    name = "generation"
    metric = "loss"
    higher_is_better = False
    recipe = LanguageRecipe(
        width=256, layers=4, heads=4, dropout=0.15, vocabulary=256, context=256, epochs=12, patience=4,
        batch=16, rate=2e-3, warmup=200, decay=0.1, average=0.99,
    )  # fmt: skip

    def read(self, source: Source, recipe: Any) -> Data:
        """A text file; without a validation file its last tenth validates."""
        source.refuse(self.name, "fold", "columns", "skip_bad", "labels")
        text = _text(source.data, source.encoding)
        if source.valid is None:
            at = int(0.9 * len(text))
            text, valid = text[:at], text[at:]
        else:
            valid = _text(source.valid, source.encoding)
        size = recipe.vocabulary
        self.tokenizer = self.tokenizer_from(
            lambda: train_characters(text) if size <= CHARACTERS else train_bytes(_lines(text), size)
        )
        parts = [self._ids(text), self._ids(valid)]
        test = (
            []
            if source.test is None
            else self._windows(self._ids(_text(source.test, source.encoding)), recipe)
        )
        for part, name in zip(parts, ("training", "validation"), strict=True):
            if len(part) <= recipe.context:
                raise DataError(
                    f"{source.data}: the {name} text has {len(part)} tokens, no more than the context of "
                    f"{recipe.context}; give a longer text, or --set context=..."
                )
        self.stream, self.drawn = parts[0], recipe
        return Data(list(range(len(parts[0]) // recipe.context)), self._windows(parts[1], recipe), test)

    def _ids(self, text: str) -> Tensor:
        # A line at a time: tokenizers are slow on megabytes at once.
        encoded = self.tokenizer.encode_batch(_lines(text))
        return torch.tensor([i for each in encoded for i in each.ids])

    def _windows(self, ids: Tensor, recipe: Any) -> list[list[int]]:
        """One after another, each token predicted once."""
        step = recipe.context
        return [ids[at : at + step + 1].tolist() for at in range(0, len(ids) - 1, step)]

    def epoch(self, examples: list[Any], generator: torch.Generator) -> list[Any]:
        """Windows from a newly drawn start, so that no token is always the first."""
        drawn = self.drawn
        return drawn_windows(self.stream, drawn.context, drawn.shortest, drawn.fill, drawn.repeats, generator)

    def build(self, recipe: Any) -> Decoder:
        """A decoder with rotary positions that looks back as far as in training, or at everything."""
        return Decoder(
            DecoderConfig(
                width=recipe.width, layers=recipe.layers, heads=recipe.heads, dropout=recipe.dropout,
                hidden=recipe.hidden or None,
                vocabulary=self.tokenizer.get_vocab_size(), max_positions=recipe.context,
                positions="rotary", rotary_share=recipe.rotary_share,
                window=None if recipe.window < 0 else recipe.window or recipe.context,
                global_every=recipe.global_every or None,
            )
        )  # fmt: skip

    def size(self, example: Window) -> int:
        """Tokens that are read at once."""
        return example.length

    def loss(self, model: Decoder, examples: Sequence[Window], recipe: Any) -> Tensor:
        """Cross-entropy of each next token."""
        total = torch.zeros((), device=model.device)
        for ids, wanted in by_length(examples):
            total = total + F.cross_entropy(
                model(ids).flatten(0, 1).float(), wanted.flatten().to(model.device), reduction="sum",
                label_smoothing=recipe.smoothing,
            )  # fmt: skip
        return total / self.weight(examples)

    def weight(self, examples: Sequence[Window]) -> float:
        """Tokens that are predicted."""
        return sum(len(window.ids) - 1 for window in examples)

    def evaluate(self, model: Decoder, examples: Sequence[list[int]], recipe: Any) -> dict[str, float]:
        """The mean loss of a token, in nats."""
        total, count = 0.0, 0
        whole = [each for each in examples if len(each) == recipe.context + 1]
        rows = max(1, min(16, _MEASURED // recipe.context))
        parts = [torch.tensor(whole[at : at + rows]) for at in range(0, len(whole), rows)]
        parts += [torch.tensor([each]) for each in examples if len(each) != recipe.context + 1]
        for ids in parts:
            logits = model(ids[:, :-1]).flatten(0, 1).float()
            wanted = ids[:, 1:].flatten().to(logits.device)
            total += float(F.cross_entropy(logits, wanted, reduction="sum"))
            count += ids[:, 1:].numel()
        return {"loss": total / count}

    def judge(self, model: Decoder, examples: Sequence[list[int]], recipe: Any) -> dict[str, float]:
        """The loss per token and, to compare models with different tokenizers, per character."""
        figures = self.evaluate(model, examples, recipe)
        texts = self.tokenizer.decode_batch([each[1:] for each in examples])
        tokens = sum(len(each) - 1 for each in examples)
        return figures | {"loss_per_character": figures["loss"] * tokens / sum(map(len, texts))}

    def answers(
        self, model: Decoder, inputs: Sequence[str], recipe: Any, options: dict[str, Any]
    ) -> list[Any]:
        """{"generated_text"}: the text and its continuation; only the last ``context`` tokens are read.

        A model that sees all before it reads fewer, so that what it writes stays within the context, too.
        One of word pieces writes no four of them twice, unless ``no_repeat`` says otherwise.
        """
        given = {name: each for name, each in options.items() if name != "truncation"}
        chosen = {"new_tokens": 100, "no_repeat": self.no_repeat} | given
        room = max(1, recipe.context - chosen["new_tokens"]) if recipe.unlimited else recipe.context
        answers = []
        for text in inputs:
            known = torch.tensor([self.tokenizer.encode(text).ids[-room:]], device=model.device)
            written = model.generate(known, **chosen).lists()[0]
            answers.append(
                {"generated_text": text + self.tokenizer.decode(written, skip_special_tokens=True)}
            )
        return answers

    def together(self, answers: list[Any], alone: bool) -> Any:
        """A list of several texts gives a list of lists."""
        return answers if alone else [[each] for each in answers]

    @property
    def no_repeat(self) -> int | None:
        """Tokens in a row that come once in a text that is written; ``None``: any may come again."""
        return None if self.tokenizer.get_vocab_size() <= CHARACTERS else _NO_REPEAT

    def runnable(self, model: Decoder, recipe: Any, name: str) -> Runnable:
        """A decoder that goes on with a text."""
        return Runnable(
            model,
            self.tokenizer,
            name,
            "continuation",
            "continuation",
            recipe.context,
            example="To be, or not",
            no_repeat=self.no_repeat,
        )

    def look(self, model: Decoder, given: str, recipe: Any, options: LookOptions) -> Seen:
        """The whole text, however long, where a position looks back at most the length of the context.

        A model that sees all before it reads no more than its context: of places beyond it knows nothing.
        """
        options.refuse_target(self.name)
        limit, whose = options.limit, "--max-tokens"
        if recipe.unlimited:
            limit, whose = limit_of(recipe.context, options)
        ids, notices = shortened(self._ids(given).tolist(), limit, "the text", whose)
        trace, tokens, logits = look_at(model, self.tokenizer, ids)
        return Seen(trace, (given,), tokens, notices, self._next(logits[0, -1], ids))

    def _next(self, logits: Tensor, ids: list[int]) -> Output:
        """The likeliest next tokens, as they are shown among those of the text, and what they follow."""
        names = names_of_vocabulary(self.tokenizer.get_vocab())(range(len(logits)))
        output = likeliest("next", "next token", logits.double().softmax(-1), names)
        end = self.tokenizer.decode(ids[-_END:], skip_special_tokens=False)
        return replace(output, after=("…" if len(ids) > _END else "") + end)

    def question(self, model: Decoder, given: str, recipe: Any, target: str | None = None) -> Question:
        """The probability of the token that follows, the likeliest one, or the first of the given target."""
        ids, _ = shortened(self._ids(given).tolist(), None, "the text", "")
        inputs = torch.tensor([ids])
        with torch.no_grad():
            at = int(model(inputs)[0, -1].argmax())
        if target is not None:
            at = shortened(self._ids(target).tolist(), None, "the target", "")[0][0]
        return Question(
            model,
            inputs,
            lambda logits: logits[:, -1].double().softmax(-1)[:, at].mean(),
            tuple(self.tokenizer.id_to_token(token) for token in ids),
            f"probability of {self.tokenizer.id_to_token(at)!r} next",
        )


def _text(path: Path, encoding: str) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode(encoding)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is no {encoding}; give the right --encoding") from None
    if not text.strip():
        raise DataError(f"{path}: is empty")
    return text


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
