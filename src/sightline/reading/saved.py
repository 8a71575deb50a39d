"""A folder of ``sightline.models`` that no task made, as a model that reads texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.attribution.lens.asked import can_be_read
from sightline.common.devices import placed
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    from_pretrained,
    load_tokenizer,
)
from sightline.reading.errors import InputError
from sightline.reading.lens import names_of_vocabulary
from sightline.reading.output import WROTE, Output, likeliest, written
from sightline.reading.reading import Reading
from sightline.reading.runnable import Runnable
from sightline.reading.tokens import tokens_of_strings
from sightline.reading.traced import reading_of
from sightline.tracing import trace

_LONGEST = 256  # tokens that an encoder-decoder without learned positions writes at most


class SavedModel:
    """What ``save_pretrained(folder, tokenizer)`` wrote.

    Args:
        folder: where it lies.
        name: what to call it.
        device: where it runs. Default: the CPU.

    Raises:
        CheckpointError: it holds no whole model, or no tokenizer.
        InputError: the model takes no texts.
    """

    def __init__(self, folder: Path, name: str, device: torch.device | None = None) -> None:
        self.name = name
        model = placed(from_pretrained(folder).float(), device or torch.device("cpu"))
        if not isinstance(model, (Encoder, Decoder, EncoderDecoder)):
            raise InputError(f"{folder}: holds a {type(model).__name__}, which reads no texts")
        self.model: nn.Module = model
        self._reader = model
        self.tokenizer = load_tokenizer(folder)
        self.encoder_decoder = isinstance(model, EncoderDecoder)

    @property
    def _config(self) -> EncoderConfig | DecoderConfig | EncoderDecoderConfig:
        return self._reader.config

    def runnable(self) -> Runnable:
        """The model, and how it writes where nobody says otherwise."""
        room = self._config.room
        if isinstance(self._reader, EncoderDecoder):
            longest = min(room or _LONGEST, _LONGEST)
            return Runnable(
                self._reader, self.tokenizer, self.name, "text", "text", room, beams=4, new_tokens=longest
            )
        if isinstance(self._reader, Decoder):
            return Runnable(self._reader, self.tokenizer, self.name, "continuation", "continuation", room)
        if self._reader.config.head == "classification":
            labels = tuple(str(at) for at in range(self._reader.config.classes))
            return Runnable(self._reader, self.tokenizer, self.name, "label", "label", room, labels)
        return Runnable(self._reader, self.tokenizer, self.name, "states", "states", room)

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`sightline.reading.opened.OpenedModel`."""
        room = self._config.room
        limit = min(room or max_tokens or 1 << 30, max_tokens or room or 1 << 30)
        source, notices = self._ids(text, limit)
        if not isinstance(self._reader, EncoderDecoder):
            if pair is not None:
                raise InputError("this model reads one text; leave out the second")
            sides = [source]
        else:
            target, more = self._target(source, pair, limit)
            sides, notices = [source, target], notices + more
        residual = can_be_read(self._reader, len(sides[-1]))
        with torch.no_grad(), trace(self._reader, residual=residual) as calls:
            logits = self._reader(*(torch.tensor([ids]) for ids in sides))
        tokens = [[self.tokenizer.id_to_token(at) for at in ids] for ids in sides]
        reading = reading_of(calls, tokens=tokens, vocabulary=self.tokenizer.get_vocab())
        told = self._output(logits, sides, pair is not None)
        texts = (text,) if len(sides) == 1 else (text, self._text(sides[1]))
        notices = (*notices, *reading.notices)
        lens = reading.lens
        if lens is not None and lens.stream.reads == "words":
            lens = replace(lens, names=names_of_vocabulary(self.tokenizer.get_vocab()))
        return replace(reading, model=self.name, texts=texts, notices=notices, output=told, lens=lens)

    def _output(self, logits: Tensor, sides: list[list[int]], given: bool) -> Output | None:
        """What came out: the text that was written, the likeliest label, or the likeliest next token."""
        if isinstance(self._reader, EncoderDecoder):
            return written("text", self._text(sides[1]), given)
        if isinstance(self._reader, Decoder):
            pieces = [str(self.tokenizer.id_to_token(at)) for at in range(logits.shape[-1])]
            names = [token.text for token in tokens_of_strings(pieces)]
            return likeliest("next", "next token", logits[0, -1].softmax(-1), names)
        if self._reader.config.head == "classification":
            return likeliest("label", "label", logits[0].softmax(-1))
        return None

    def _ids(self, text: str, limit: int) -> tuple[list[int], tuple[str, ...]]:
        """A text as ids, with the end where a source has one, and a notice about those that did not fit."""
        ids = list(self.tokenizer.encode(text).ids)
        if not ids:
            raise InputError("the text has no token that the model knows: there is nothing to look at")
        end = self._reader.config.end if isinstance(self._reader, EncoderDecoder) else None
        tail = [] if end is None else [end]
        most = limit - len(tail) or 1
        if len(ids) <= most:
            return [*ids, *tail], ()
        dropped = (
            f"the text has {len(ids)} tokens; the limit is {most}: the last {len(ids) - most} were dropped"
        )
        return [*ids[:most], *tail], (dropped,)

    def _target(self, source: list[int], pair: str | None, limit: int) -> tuple[list[int], tuple[str, ...]]:
        """The decoder's input, from a given target or from what the model writes."""
        assert isinstance(self._reader, EncoderDecoder)
        start = self._reader.config.start
        if start is None:
            raise InputError("this model's configuration names no token for a target to begin with (start)")
        if pair is not None:
            ids = list(self.tokenizer.encode(pair).ids)[: limit - 1]
            return [start, *ids], ()
        how = self.runnable()
        found = self._reader.generate(
            torch.tensor([source], device=self._reader.device),
            new_tokens=min(how.new_tokens, limit - 1 or 1),
            beams=how.beams,
        )
        return [start, *found.lists()[0]], (WROTE,)

    def _text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()
