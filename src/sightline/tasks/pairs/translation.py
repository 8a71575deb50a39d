"""Translation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any

from sightline.common.errors import CommandError
from sightline.models import EncoderDecoder
from sightline.tasks.pairs.aligning import Aligning, aligned, encoded, find_aligning
from sightline.tasks.pairs.pairs import PairTask, TextPair
from sightline.tasks.pairs.recipe import PairRecipe
from sightline.tasks.task import Data, Source


class Translation(PairTask):
    """A sentence and its translation.

    ``settings`` has in which heads a word of the translation finds its source (:class:`Aligning`), as far as
    the validation part could tell.
    """

    name = "translation"
    metric = "loss"
    higher_is_better = False
    columns = ("source", "target")
    answer = "translation_text"
    called = "translation"
    recipe = PairRecipe(
        width=128, layers=4, heads=4, hidden=256, dropout=0.2, vocabulary=5000, context=64, epochs=36,
        patience=6, batch=128, rate=3e-3, warmup=400, smoothing=0.1, average=0.995,
    )  # fmt: skip

    def read(self, source: Source, recipe: Any) -> Data:
        """Rows of (source, target)."""
        if find_spec("sacrebleu") is None:  # fail now, not after an hour of training
            raise CommandError('BLEU needs sacrebleu: pip install "sightline[tasks]"')
        return super().read(source, recipe)

    def compare(self, written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """BLEU (tokenizer 13a) and chrF of the corpus without case, by sacrebleu."""
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        against = list(zip_longest(*references))  # None where a source has fewer
        return {
            name: metric(lowercase=True).corpus_score(list(written), against).score
            for name, metric in (("bleu", BLEU), ("chrf", CHRF))
        }

    def settle(self, model: EncoderDecoder, examples: Sequence[TextPair], recipe: Any) -> None:
        """Finds the heads that align best, by the words that stand on both sides."""
        pairs = [(self.text_of(pair.source), pair.text) for pair in examples]
        found = find_aligning(self.tokenizer, model, pairs, recipe.context)
        if found is not None:
            self.settings["alignment"] = found._asdict()

    @property
    def aligning(self) -> Aligning | None:
        """The heads that align best; None where that is not known."""
        known = self.settings.get("alignment")
        return None if known is None else Aligning(**{**known, "heads": tuple(known["heads"])})

    def answers(
        self, model: EncoderDecoder, inputs: Sequence[str], recipe: Any, options: dict[str, Any]
    ) -> list[Any]:
        """The translations; with ``alignment`` also which words of source and translation belong together.

        Raises:
            CommandError: as for other texts; ``alignment`` of a model whose aligning heads are not known.
        """
        by = self.aligning
        if options.get("alignment", False) and by is None:
            raise CommandError(
                "alignment: which heads of this model align is not known; its validation part held too few "
                "words that stand on both sides"
            )
        answers = super().answers(model, inputs, recipe, options)
        if options.get("alignment", False) and by is not None:
            for text, answer in zip(inputs, answers, strict=True):
                answer["alignment"] = self._pairs(model, by, text, answer[self.answer], recipe.context)
        return answers

    def _pairs(
        self, model: EncoderDecoder, by: Aligning, source: str, target: str, context: int
    ) -> list[tuple[str, str, float]]:
        """(word of the source, word of the translation, weight), in the order of the translation."""
        sides = (encoded(self.tokenizer, source).cut(context - 1), encoded(self.tokenizer, target))
        return [
            (sides[0].texts[pair.key], sides[1].texts[pair.query], pair.weight)
            for pair in aligned(model, by, *sides)
        ]
