"""Models of Transformers with a head: what they answer, and as a number what ``sightline.effects`` asks."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sightline.common.pretrained import quiet
from sightline.huggingface.load import LoadedModel, load_model
from sightline.reading.errors import InputError
from sightline.reading.outcome import Outcome, outcome_of_logits, word_of
from sightline.reading.pieces import spells_bytes
from sightline.reading.tokens import encode
from sightline.reading.writing import start_of, tensors, written_by
from sightline.removing.question import Question, mean_log_probability

_CONTINUED = 24  # tokens that a model of language goes on with


class HeadedModel:
    """A model of Transformers with its head, as one that is asked and that answers."""

    def __init__(self, name: str, device: torch.device | None = None) -> None:
        self._loaded = load_model(name, head=True, device=device)
        self.model = self._loaded.model
        self.model.config.use_cache = False  # matrices are of the text alone

    def question(self, text: str, target: str | None = None) -> Question:
        """See :func:`question`."""
        return question(self._loaded, text, target)

    def outcome(self, output: Any) -> Outcome:
        """See :class:`sightline.reading.outcome.Answering`."""
        logits, kind = getattr(output, "logits", None), type(self.model).__name__
        if logits is not None and logits.dim() == 2:
            labels = self.model.config.id2label
            return outcome_of_logits(logits, "label", lambda at: str(labels.get(at, at)))
        if kind.endswith(("ForTokenClassification", "ForQuestionAnswering")):
            return Outcome()
        return outcome_of_logits(logits, "word here" if "MaskedLM" in kind else "next word", self._word)

    def _word(self, at: int) -> str:
        piece = str(self._loaded.tokenizer.convert_ids_to_tokens(at))
        return word_of(piece, self._spells_bytes)

    @cached_property
    def _spells_bytes(self) -> bool:
        return spells_bytes(self._loaded.tokenizer)

    def write(self, text: str) -> str | None:
        """See :class:`sightline.reading.outcome.Answering`."""
        loaded = self._loaded
        writes = loaded.encoder_decoder or type(self.model).__name__.endswith(("ForCausalLM", "LMHeadModel"))
        if not writes or not hasattr(loaded.model, "generate"):
            return None
        inputs = tensors(loaded, encode(loaded.tokenizer, text, None, loaded.limit).inputs)
        count = inputs["input_ids"].shape[1]
        with quiet(), torch.no_grad():
            if loaded.encoder_decoder:
                ids = written_by(loaded, inputs)[1:]
            else:
                room = _CONTINUED if loaded.limit is None else min(_CONTINUED, loaded.limit - count)
                if room < 1:
                    return None
                ids = loaded.model.generate(**inputs, do_sample=False, use_cache=True, max_new_tokens=room)[
                    0
                ].tolist()[count:]
        return str(loaded.tokenizer.decode(ids, skip_special_tokens=True)).strip("\n")


def question(loaded: LoadedModel, text: str, target: str | None = None) -> Question:
    """The question of a text: the probability of a label, of a next token, of a masked one, or of a target.

    Args:
        loaded: a model with its head.
        text: the text.
        target: another answer: a label, a token, or the text that an encoder-decoder is to write.

    Raises:
        InputError: the model has no head whose output is an answer.
    """
    encoded = encode(loaded.tokenizer, text, None, loaded.limit)
    inputs = tensors(loaded, encoded.inputs)
    notices = (f"the text is longer than the model's limit: {encoded.dropped} tokens were dropped",)
    tokens = tuple(token.text for token in encoded.tokens)
    if loaded.encoder_decoder:
        inputs, metric, about = _written(loaded, inputs, target)
    else:
        metric, about = _answer(loaded, inputs, target)
    loaded.model.config.use_cache = False
    return Question(loaded.model, inputs, metric, tokens, about, notices if encoded.dropped else ())


def _answer(loaded: LoadedModel, inputs: dict[str, Tensor], target: str | None) -> tuple[Any, str]:
    with torch.no_grad():
        logits = getattr(loaded.model(**inputs), "logits", None)
    if logits is None or logits.dim() not in (2, 3):
        raise InputError(
            f"the model {loaded.name} has no head that gives an answer; take one for classification, "
            "generation or masked words, or sightline.effects with a metric of your own"
        )
    if logits.dim() == 2:
        return _label(loaded, logits, target)
    place, about = -1, "next"
    mask = loaded.tokenizer.mask_token_id
    if type(loaded.model).__name__.endswith("ForMaskedLM"):
        places = (inputs["input_ids"][0] == mask).nonzero().flatten().tolist()
        if len(places) != 1:
            raise InputError(f"a masked language model takes a text with one {loaded.tokenizer.mask_token}")
        place, about = places[0], f"at {loaded.tokenizer.mask_token}"
    at = int(logits[0, place].argmax())
    if target is not None:
        ids = loaded.tokenizer(target, add_special_tokens=False)["input_ids"]
        if not ids:
            raise InputError(f"target {target!r}: has no token that the model knows")
        at = ids[0]
    word = loaded.tokenizer.decode([at])

    def metric(output: Any) -> Tensor:
        probability: Tensor = output.logits[:, place].double().softmax(-1)[:, at].mean()
        return probability

    return metric, f"probability of {word!r} {about}"


def _label(loaded: LoadedModel, logits: Tensor, target: str | None) -> tuple[Any, str]:
    labels = loaded.model.config.id2label
    at = int(logits[0].argmax())
    if target is not None:
        known = {name: number for number, name in labels.items()}
        if target not in known:
            raise InputError(f"label {target!r}: there are {', '.join(known)}")
        at = int(known[target])

    def metric(output: Any) -> Tensor:
        if output.logits.shape[-1] == 1:  # a number, no classes
            number: Tensor = output.logits.double().mean()
            return number
        probability: Tensor = output.logits.double().softmax(-1)[:, at].mean()
        return probability

    number = logits.shape[-1] == 1
    return metric, "the number" if number else f"probability of {labels.get(at, at)!r}"


def _written(
    loaded: LoadedModel, inputs: dict[str, Tensor], target: str | None
) -> tuple[dict[str, Tensor], Any, str]:
    if target is None:
        ids = written_by(loaded, inputs)[1:]
    else:
        end = loaded.tokenizer.eos_token_id
        ids = list(encode(loaded.tokenizer, target, None, loaded.limit).inputs["input_ids"][0])
        ids = ids[:-1] if ids[-1] == end else ids
    if not ids:
        raise InputError(f"the model {loaded.name} writes nothing for this text; give a target")
    both = tensors(loaded, {"wanted": [ids], "decoder_input_ids": [[start_of(loaded), *ids[:-1]]]})
    wanted = both.pop("wanted")
    inputs = {**inputs, **both}
    text = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return (
        inputs,
        lambda output: mean_log_probability(output.logits, wanted),
        f"mean log-probability of {text!r}",
    )
