"""What a model made of an input: tokens, and the attention matrices of every layer, stack by stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sightline.reading.errors import InputError
from sightline.reading.output import Output
from sightline.reading.tokens import Token

if TYPE_CHECKING:
    from torch import Tensor

    from sightline.matrix import AttentionMatrix
    from sightline.reading.lens import WordLens
    from sightline.tracing.media import Picture, Sound


@dataclass(frozen=True)
class LayerFacts:
    """What is known of a layer besides its matrix.

    Attributes:
        name: the module's name.
        verified: whether the matrix was found to be the model's own.
        reason: why not, if not.
        whole: whether its rows are positions of the whole input, not of a window, nor channels.
    """

    name: str = ""
    verified: bool = True
    reason: str = ""
    whole: bool = True


@dataclass(frozen=True)
class Section:
    """The attention of one stack: ``encoder``, ``decoder``, ``cross`` (decoder queries, encoder keys), ...

    Attributes:
        name: which stack.
        queries: the tokens that look; N of them.
        keys: the tokens that are looked at; M of them.
        layers: one AttentionMatrix [1,H,N,M] per layer.
        is_self: whether queries and keys are the same tokens.
        is_causal: whether a query sees no later token.
        facts: of every layer; none where nothing is known.
        gradients: dL/dcontext [1,H,N,E] of every layer, for relevance; none where some are not known.
    """

    name: str
    queries: tuple[Token, ...]
    keys: tuple[Token, ...]
    layers: tuple[AttentionMatrix, ...]
    is_self: bool
    is_causal: bool
    facts: tuple[LayerFacts, ...] = ()
    gradients: tuple[Tensor, ...] = ()

    def facts_of(self, layer: int) -> LayerFacts:
        """What is known of a layer."""
        return self.facts[layer] if self.facts else LayerFacts()


@dataclass(frozen=True)
class Reading:
    """What a model made of a text, or of an image or a sound: everything that is shown follows from it.

    Attributes:
        model: the model's name.
        texts: the text, or the pair, or else what to call the input; none if that is not known.
        sections: one for an encoder or a decoder; three for an encoder-decoder.
        notices: what the user ought to know (tokens dropped, a target that the model wrote).
        medium: the image or the sound whose patches or frames are the positions.
        output: what the model made of it, where that is known.
        lens: what its positions say in words, where that was recorded.
    """

    model: str
    texts: tuple[str, ...]
    sections: tuple[Section, ...]
    notices: tuple[str, ...]
    medium: Picture | Sound | None = None
    output: Output | None = None
    lens: WordLens | None = None

    def cpu(self) -> Reading:
        """The same with matrices on the CPU, where views put them together; itself where they are there."""
        layers = [layer for section in self.sections for layer in section.layers]
        if all(layer.device.type == "cpu" for layer in layers):
            return self
        sections = (
            replace(
                section,
                layers=tuple(layer.cpu() for layer in section.layers),
                gradients=tuple(gradient.cpu() for gradient in section.gradients),
            )
            for section in self.sections
        )
        return replace(self, sections=tuple(sections))

    def section(self, name: str | None) -> Section:
        """The section of that name; by default ``cross`` where there is one, else the only one.

        Raises:
            InputError: there is none of that name.
        """
        names = [section.name for section in self.sections]
        wanted = name or ("cross" if "cross" in names else names[0])
        if wanted not in names:
            raise InputError(f"--section {wanted}: this model has {', '.join(names)}")
        return self.sections[names.index(wanted)]


def sees_first_only(matrix: AttentionMatrix) -> bool:
    """Whether the first query has no weight beyond the first key."""
    return not bool((matrix[0, :, 0:1, 1 : matrix.shape[3]] != 0).any())
