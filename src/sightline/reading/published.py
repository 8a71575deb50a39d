"""Texts read by a model of Transformers: its tokens, and the attention matrices that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from sightline.attribution.lens.asked import recorded
from sightline.common.check import SettingError
from sightline.common.pretrained import quiet
from sightline.huggingface.load import LoadedModel, load_model
from sightline.matrix import AttentionMatrix
from sightline.reading.errors import InputError
from sightline.reading.lens import names_of_ids
from sightline.reading.output import WROTE, written
from sightline.reading.questions import HeadedModel
from sightline.reading.reading import Reading, Section, sees_first_only
from sightline.reading.recorded import lens_of
from sightline.reading.tokens import EncodedText, Token, encode, tokens_of_ids
from sightline.reading.unknown import unknown_notices
from sightline.reading.writing import WRITTEN, start_of, tensors, written_by


class PublishedModel:
    """A model of Hugging Face's Transformers, as an :class:`OpenedModel`; with ``head`` as it was saved."""

    def __init__(self, name: str, head: bool = False, device: torch.device | None = None) -> None:
        self._given, self._device = name, device
        self._headed: HeadedModel | None = None
        self._loaded = load_model(name, head=head, device=device)
        self.name, self.model = self._loaded.name, self._loaded.model
        self.encoder_decoder = self._loaded.encoder_decoder

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`OpenedModel`."""
        return read(self._loaded, text, pair, max_tokens)

    def answering(self) -> HeadedModel:
        """See :class:`OpenedModel`."""
        if self._headed is None:
            self._headed = HeadedModel(self._given, self._device)
        return self._headed


def read(loaded: LoadedModel, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
    """Run the model over ``text`` (and ``pair``) and keep its attention matrices.

    Raises:
        InputError: the text has no tokens, or the model gives no attention matrices.
    """
    limit = min((n for n in (loaded.limit, max_tokens) if n is not None), default=None)
    reason = (
        "--max-tokens" if limit is not None and limit == max_tokens != loaded.limit else "the model's limit"
    )
    with quiet():
        read_all = _read_pair if loaded.encoder_decoder else _read_one
        reading = read_all(loaded, text, pair, limit, reason)
    return replace(reading, notices=(*_unknown(loaded, reading), *reading.notices))


def _read_one(loaded: LoadedModel, text: str, pair: str | None, limit: int | None, reason: str) -> Reading:
    encoded = encode(loaded.tokenizer, text, pair, limit)
    with recorded(loaded.model, len(encoded.tokens)) as recorder:
        outputs = _run(loaded, tensors(loaded, encoded.inputs))
    layers = _matrices(loaded, outputs, "attentions")
    causal = _is_causal(loaded, layers)
    section = Section(
        "decoder" if causal else "encoder", encoded.tokens, encoded.tokens, layers, True, causal
    )
    lens = lens_of(recorder, (section,), 0)
    if lens is not None:
        lens = replace(lens, names=partial(names_of_ids, loaded.tokenizer))
    texts = (text,) if pair is None else (text, pair)
    notices = _dropped(encoded, limit, reason, "the text" if pair is None else "the texts")
    return Reading(loaded.name, texts, (section,), notices, lens=lens)


def _read_pair(loaded: LoadedModel, text: str, pair: str | None, limit: int | None, reason: str) -> Reading:
    source = encode(loaded.tokenizer, text, None, limit)
    inputs = tensors(loaded, source.inputs)
    notices = _dropped(source, limit, reason, "the source")
    if pair is None:
        ids = written_by(loaded, inputs)
        tokens = tokens_of_ids(loaded.tokenizer, ids)
        target_text = loaded.tokenizer.decode(ids[1:], skip_special_tokens=True).strip()
        texts: tuple[str, ...] = (text, target_text)
        notices += (f"{WROTE} (greedily, at most {WRITTEN} tokens)",)
    else:
        target = encode(loaded.tokenizer, pair, None, limit)
        notices += _dropped(target, limit, reason, "the target")
        end = loaded.tokenizer.eos_token_id
        labels = target.inputs["input_ids"][0]
        kept = len(labels) - (labels[-1] == end)
        ids = [start_of(loaded), *labels[:kept]]
        tokens = _after_start(tokens_of_ids(loaded.tokenizer, ids[:1]), target.tokens[:kept])
        texts = (text, pair)
    outputs = _run(loaded, {**inputs, **tensors(loaded, {"decoder_input_ids": [ids]})})
    encoder, decoder, cross = (
        _matrices(loaded, outputs, f"{name}_attentions") for name in ("encoder", "decoder", "cross")
    )
    sections = (
        Section("encoder", source.tokens, source.tokens, encoder, True, False),
        Section("decoder", tokens, tokens, decoder, True, True),
        Section("cross", tokens, source.tokens, cross, False, False),
    )
    output = written("text", texts[1], given=pair is not None)
    return Reading(loaded.name, texts, sections, notices, output=output)


def _run(loaded: LoadedModel, inputs: dict[str, Any]) -> Any:
    loaded.model.config.use_cache = False
    try:
        with torch.inference_mode(False), torch.no_grad():
            return loaded.model(**inputs, output_attentions=True)
    except SettingError:
        raise
    except (IndexError, RuntimeError, ValueError, TypeError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the model {loaded.name} does not take this text: {line}") from error


def _after_start(start: tuple[Token, ...], tokens: tuple[Token, ...]) -> tuple[Token, ...]:
    """The decoder's tokens: the one it starts with, then the target's, each a place later."""
    return start + tuple(replace(token, index=token.index + 1, word=token.word + 1) for token in tokens)


def _matrices(loaded: LoadedModel, outputs: Any, name: str) -> tuple[AttentionMatrix, ...]:
    matrices: Sequence[Any] = getattr(outputs, name, None) or ()
    if not matrices or any(not hasattr(matrix, "readouts") for matrix in matrices):
        kind = getattr(loaded.model.config, "model_type", "?")
        raise InputError(f"the model {loaded.name} (type {kind}) gives no attention matrices to look into")
    return tuple(matrices)


def _is_causal(loaded: LoadedModel, layers: Sequence[AttentionMatrix]) -> bool:
    """Whether the first query sees the first key only."""
    if layers[0].shape[2] == 1:
        return any(
            str(name).endswith(("CausalLM", "LMHeadModel"))
            for name in loaded.model.config.architectures or ()
        )
    return sees_first_only(layers[0])


def _unknown(loaded: LoadedModel, reading: Reading) -> tuple[str, ...]:
    last = reading.sections[-1]
    sides = [("the text" if last.is_self else "the source", last.keys)]
    if not last.is_self:
        sides.append(("the target", last.queries))
    if not any(token.unknown for _, tokens in sides for token in tokens):
        return ()  # a vocabulary may be large
    return unknown_notices(sides, loaded.tokenizer.get_vocab())


def _dropped(encoded: EncodedText, limit: int | None, reason: str, what: str) -> tuple[str, ...]:
    if not encoded.dropped:
        return ()
    whole = len(encoded.tokens) + encoded.dropped
    return (f"{what} has {whole} tokens; {reason} is {limit}: the last {encoded.dropped} were dropped",)
