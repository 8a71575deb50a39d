"""Speech recognition: a speech encoder trained by CTC, and the words that its letters make."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.models import SpeechEncoder, SpeechEncoderConfig
from sightline.reading.output import written
from sightline.tasks.rows import DataError
from sightline.tasks.speech.audio import need_packages
from sightline.tasks.speech.augment import Drawn, Utterance, Variation
from sightline.tasks.speech.decoding import BLANK, BOUNDARY, WordSearch, greedy
from sightline.tasks.speech.features import SECOND, Features, normalised
from sightline.tasks.speech.given import as_given, recordings_at
from sightline.tasks.speech.reading import Said, read_said
from sightline.tasks.speech.recipe import SpeechRecipe
from sightline.tasks.speech.words import Bigrams
from sightline.tasks.splitting import split
from sightline.tasks.task import Data, LookOptions, Seen, Source, Task
from sightline.tracing import trace
from sightline.tracing.media import Sound

_WEIGHTS, _BONUSES = (0.0, 0.3, 0.6, 1.0, 1.5), (0.0, 1.0, 2.0)  # of the word search
_BATCH = 16
_SETTLED_ON = 200  # validation examples at most
_SPEAKERS = 10  # from this many speakers on, validation holds out whole speakers


class SpeechRecognition(Task):
    """Letters for each 40 ms of sound, by connectionist temporal classification."""

    name = "speech-recognition"
    metric = "wer"
    higher_is_better = False
    tokenized = False
    recipe = SpeechRecipe(
        width=144, layers=4, heads=4, hidden=288, dropout=0.1, lowercase=True, context=3000,
        epochs=80, patience=80, batch=16, rate=2e-3, warmup=150, decay=0.05, average=0.99, bins=40,
        sampling_rate=16_000, convolution=15, subsampling=4, tempo=0.1, voice=0.1, masks=2,
    )  # fmt: skip

    # --- data -------------------------------------------------------------------------------------------

    def read(self, source: Source, recipe: Any) -> Data:
        """Recordings and what was said in them; see :func:`read_said`."""
        source.refuse(self.name, "fold", "labels")
        need_packages()
        self.variation = Variation(recipe.tempo, recipe.voice, recipe.masks, recipe.join, recipe.context)
        said, notices = read_said(source.data, source)
        self.settings = {"features": Features.of(said[0].path, recipe.sampling_rate, recipe.bins).to_dict()}
        letters = {letter for each in said for letter in self._spelt(each.text, recipe)}
        self.labels = [BLANK, *sorted({BOUNDARY, *letters})]
        train = self._heard(said, source, recipe, notices)
        parts: list[list[Utterance]] = []
        for path in (source.valid, source.test):
            others, bad = ([], []) if path is None else read_said(path, source)
            notices += bad
            parts.append(self._heard(others, source, recipe, notices))
        valid, test = parts
        if source.valid is None:
            train, valid = _held_out(train, recipe.seed)
        for part, path in ((train, source.data), (valid, source.valid or source.data)):
            if not part:
                raise DataError(f"{path}: holds too few recordings that can be used")
        self.settings["bigrams"] = Bigrams.of((each.text for each in train), recipe.vocabulary).counts
        return Data(train, valid, test, notices)

    @property
    def features(self) -> Features:
        """The kind of frames."""
        return Features(**self.settings["features"])

    def _spelt(self, text: str, recipe: Any) -> str:
        return text.lower() if recipe.lowercase else text

    def _heard(self, said: list[Said], source: Source, recipe: Any, notices: list[str]) -> list[Utterance]:
        """Frames and labels; an unusable recording is an error, or a notice."""
        utterances = []
        for each in said:
            try:
                utterances.append(self._utterance(each, recipe))
            except DataError as error:
                if not source.skip_bad:
                    raise DataError(f"{error} (--skip-bad passes over such recordings)") from None
                notices.append(str(error))
        return utterances

    def _utterance(self, said: Said, recipe: Any) -> Utterance:
        text = self._spelt(said.text, recipe)
        frames = self._read(said.path, recipe)
        strange = sorted(set(text) - set(self.labels))
        if strange:
            raise DataError(f"{said.path}: {strange[0]!r} does not occur in the training texts")
        labels = [self.labels.index(letter) for letter in text]
        # A blank must separate two equal labels.
        needed = len(labels) + sum(a == b for a, b in pairwise(labels))
        there = -(-len(frames) // recipe.subsampling)
        if needed > there:
            raise DataError(
                f"{said.path}: {len(frames)} frames are too short for {text!r}: its letters need {needed} "
                f"positions, and there are {there}; a smaller --set subsampling=... has more"
            )
        return Utterance(frames, text, labels, said.speaker)

    def _read(self, path: Path, recipe: Any) -> Tensor:
        return _within(self.features.read(path), recipe.context, str(path))

    # --- training ---------------------------------------------------------------------------------------

    def build(self, recipe: Any) -> SpeechEncoder:
        """Alternating convolutions and attention, with rotary positions."""
        return SpeechEncoder(
            SpeechEncoderConfig(
                width=recipe.width, layers=recipe.layers, heads=recipe.heads, dropout=recipe.dropout,
                hidden=recipe.hidden or None, features=self.features.size, vocabulary=len(self.labels),
                head="ctc", positions="rotary", subsampling=recipe.subsampling,
                convolution=recipe.convolution or None,
            )
        )  # fmt: skip

    def size(self, example: Utterance | Drawn) -> int:
        """Frames."""
        return example.length

    def epoch(self, examples: list[Any], generator: torch.Generator) -> list[Any]:
        """Every recording once, some joined into one, each varied anew."""
        return self.variation.draw(examples, generator)

    def loss(self, model: SpeechEncoder, examples: Sequence[Drawn], recipe: Any) -> Tensor:
        """The mean over letters: −log P(labels | frames), summed over alignments."""
        frames = [self.variation.frames(each, self.features) for each in examples]
        labels = [self._labels([part.text for part in each.parts]) for each in examples]
        total, count = _negative_log(*_scores(model, frames), labels)
        return total / count

    def weight(self, examples: Sequence[Drawn]) -> float:
        """Letters."""
        return sum(len(BOUNDARY.join(part.text for part in each.parts)) for each in examples)

    def _labels(self, texts: Sequence[str]) -> list[int]:
        return [self.labels.index(letter) for letter in BOUNDARY.join(texts)]

    def evaluate(self, model: SpeechEncoder, examples: Sequence[Utterance], recipe: Any) -> dict[str, float]:
        """Word and character error rates of the likeliest letters, and the loss of a letter."""
        written, total, count = [], 0.0, 0
        ordered = sorted(examples, key=self.size)  # those of like length share a batch
        for start in range(0, len(ordered), _BATCH):
            part = ordered[start : start + _BATCH]
            scores, lengths = _scores(model, [normalised(each.frames) for each in part])
            loss, letters = _negative_log(scores, lengths, [each.labels for each in part])
            total, count = total + float(loss), count + letters
            written += [greedy(each, self.labels) for each in _parted(scores, lengths)]
        return {**error_rates([each.text for each in ordered], written), "loss": total / count}

    def settle(self, model: SpeechEncoder, examples: Sequence[Utterance], recipe: Any) -> None:
        """Chooses how letters become words: as they are, or by a search with the best of a few weights."""
        some = examples[:: max(1, len(examples) // _SETTLED_ON)]
        every = self.scores(model, [normalised(each.frames) for each in some])
        texts = [each.text for each in some]
        choices: list[dict[str, Any]] = [{"words": False}]
        for weight, bonus in product(_WEIGHTS, _BONUSES):
            choices.append({"words": True, "weight": weight, "bonus": bonus})
        errors = [error_rates(texts, self.write(every, search))["wer"] for search in choices]
        self.settings["search"] = choices[errors.index(min(errors))]

    def judge(self, model: SpeechEncoder, examples: Sequence[Utterance], recipe: Any) -> dict[str, float]:
        """The error rates of the answers, those of the likeliest letters ("greedy"), and the loss."""
        alone = self.evaluate(model, examples, recipe)
        every = self.scores(model, [normalised(each.frames) for each in examples])
        rates = error_rates([each.text for each in examples], self.write(every, self.settings["search"]))
        return {**rates, "greedy_wer": alone["wer"], "greedy_cer": alone["cer"], "loss": alone["loss"]}

    # --- answers ----------------------------------------------------------------------------------------

    def scores(self, model: SpeechEncoder, every: Sequence[Tensor]) -> list[Tensor]:
        """Log-probabilities [T',V] of the labels for frames [T,F] of each recording."""
        by_place: dict[int, Tensor] = {}
        order = sorted(range(len(every)), key=lambda at: len(every[at]))
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            scores, lengths = _scores(model, [every[at] for at in places])
            parts = _parted(scores.cpu(), lengths)
            by_place |= dict(zip(places, parts, strict=True))
        return [by_place[at] for at in range(len(every))]

    def write(self, every: Sequence[Tensor], search: dict[str, Any]) -> list[str]:
        """The text of each recording's log-probabilities."""
        if not search["words"]:
            return [greedy(scores, self.labels) for scores in every]
        chosen = {name: value for name, value in search.items() if name != "words"}
        return WordSearch(Bigrams(self.settings["bigrams"]), self.labels, **chosen).search(every)

    def inputs(self, argument: str) -> list[Any]:
        """A recording, or all of a folder.

        Raises:
            DataError: there is none.
        """
        return recordings_at(Path(argument))

    def check(self, given: Any, at: int) -> None:
        """Nothing: an unusable recording is reported when it is read."""

    def answers(
        self, model: SpeechEncoder, inputs: Sequence[Any], recipe: Any, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """{"text"} of each recording: a path, (samples, rate), or a dictionary with these.

        ``greedy=True`` takes the likeliest letters; ``beams``, ``weight`` and ``bonus`` change the search.
        """
        frames = [normalised(self._given(each, recipe)) for each in inputs]
        return [{"text": text} for text in self.write(self.scores(model, frames), self._search(options))]

    def _search(self, options: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(options) - {"greedy", "beams", "weight", "bonus"})
        if unknown:
            raise CommandError(f"{unknown[0]}: {self.name} takes greedy, beams, weight and bonus")
        if options.get("greedy"):
            return {"words": False}
        changes = {name: value for name, value in options.items() if name != "greedy"}
        return {**self.settings["search"], **changes, **({"words": True} if changes else {})}

    def _given(self, given: Any, recipe: Any) -> Tensor:
        """Frames [T,F] of whatever was passed as a recording."""
        if isinstance(given, (str, Path)):
            return self._read(Path(given), recipe)
        recording = as_given(given)
        return _within(self.features.hear(recording, "input"), recipe.context, "input")

    def together(self, answers: list[Any], alone: bool) -> Any:
        """The dictionary itself for a single recording."""
        return answers[0] if alone else answers

    def look(self, model: SpeechEncoder, given: Any, recipe: Any, options: LookOptions) -> Seen:
        """A recording: the trace has its sound, and each position's token is the letter it gave."""
        options.refuse_target(self.name)
        frames = self._given(given, recipe)
        with torch.no_grad(), trace(model) as calls:
            scores = model(normalised(frames)[None]).log_softmax(-1)[0].cpu()
        # Whole positions: the last one's frames may be fewer.
        whole = torch.cat([frames, frames[-1:].expand(-len(frames) % recipe.subsampling, -1)])
        calls.medium = Sound(self.features.energies(whole), seconds=len(whole) / SECOND, count=len(scores))
        heard = [self.labels[at].replace(BOUNDARY, "▁") or "·" for at in scores.argmax(-1).tolist()]
        text = self.write([scores], self.settings["search"])[0]
        return Seen(calls, (text,), [heard], output=written("transcript", text))


def error_rates(texts: Sequence[str], written: Sequence[str]) -> dict[str, float]:
    """Word and character error rates of a corpus, by jiwer: errors over words, or letters, of the texts."""
    import jiwer

    return {"wer": jiwer.wer(list(texts), list(written)), "cer": jiwer.cer(list(texts), list(written))}


def _scores(model: SpeechEncoder, every: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(log-probabilities [B,T',V], [B] lengths) for frames [T,F] of each recording."""
    lengths = torch.tensor([len(frames) for frames in every])
    frames = torch.nn.utils.rnn.pad_sequence(list(every), batch_first=True)
    return model(frames, lengths=lengths).float().log_softmax(-1), model.output_lengths(lengths)


def _parted(scores: Tensor, lengths: Tensor) -> list[Tensor]:
    """[T',V] of each recording, without padding."""
    return [each[:n] for each, n in zip(scores, lengths.tolist(), strict=True)]


def _negative_log(scores: Tensor, lengths: Tensor, labels: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
    """(−Σ log P(labels | scores), how many labels); recordings with too few positions count as 0."""
    sizes = torch.tensor([len(each) for each in labels])
    joined = torch.tensor([label for each in labels for label in each], device=scores.device)
    loss = F.ctc_loss(scores.transpose(0, 1), joined, lengths, sizes, reduction="sum", zero_infinity=True)
    return loss, int(sizes.sum())


def _within(frames: Tensor, context: int, name: str) -> Tensor:
    if len(frames) > context:
        raise DataError(
            f"{name}: lasts {len(frames) / SECOND:.1f} s, and the model hears {context / SECOND:g} s at "
            "once; split it, or train with a larger --set context=..."
        )
    return frames


def _held_out(examples: list[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """(the rest, about a tenth): whole speakers where there are enough of them, else utterances."""
    by_speaker = len({each.speaker for each in examples}) >= _SPEAKERS
    return split(examples, seed, key=(lambda each: each.speaker) if by_speaker else None)
