"""Translation."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any

from sightline.common.errors import CommandError
from sightline.tasks.pairs.pairs import PairTask
from sightline.tasks.pairs.recipe import PairRecipe
from sightline.tasks.task import Data, Source


class Translation(PairTask):
    """A sentence and its translation."""

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
