"""Which modules write to a model's residual stream, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from sightline.models import Decoder, Encoder, EncoderDecoder, Model, SpeechEncoder, VisionEncoder
from sightline.models.embedding import TokenEmbedding
from sightline.models.published import FAMILIES
from sightline.nn.convolution import ConvolutionModule
from sightline.nn.projections import Projections
from sightline.nn.stack import Stack
from sightline.nn.transformer_block import TransformerBlock


@dataclass(frozen=True, eq=False)
class Stream:
    """One residual stream.

    Attributes:
        prefix: what the names of its parts begin with: "" or "encoder ", say.
        stack: the blocks, and the norm that follows them.
        start: what makes the stack's input; ``None`` where that is not known.
        behind: a convolution module after each block; none mostly.
        memory: the stream that cross-attention looks at; ``None`` where there is none, or it is not known.
    """

    prefix: str
    stack: Stack
    start: TokenEmbedding | VisionEncoder | SpeechEncoder | None = None
    behind: tuple[ConvolutionModule, ...] = ()
    memory: Stream | None = None

    @property
    def blocks(self) -> list[TransformerBlock]:
        """The blocks, first to last."""
        return [block for block in self.stack.blocks if isinstance(block, TransformerBlock)]


@dataclass(frozen=True, eq=False)
class Place:
    """One attention layer in a stream.

    Attributes:
        stream: the stream that it reads its queries from.
        layer: of which block.
        kind: "self" or "cross".
    """

    stream: Stream
    layer: int
    kind: str

    @property
    def attention(self) -> Projections:
        """The attention layer."""
        block = self.stream.blocks[self.layer]
        layer = block.self_attention if self.kind == "self" else block.cross_attention
        assert layer is not None
        return layer


def places(modules: Mapping[str, nn.Module], names: Mapping[int, str]) -> dict[str, Place]:
    """The attention layers whose streams are known, by qualified name.

    Args:
        modules: all modules of a model.
        names: the qualified names of modules, by ``id``.
    """
    found: dict[str, Place] = {}
    for stream in streams(modules):
        for layer, block in enumerate(stream.blocks):
            for kind, attention in (("self", block.self_attention), ("cross", block.cross_attention)):
                if attention is not None and id(attention) in names:
                    found[names[id(attention)]] = Place(stream, layer, kind)
    return found


def streams(modules: Mapping[str, nn.Module]) -> list[Stream]:
    """The streams of all our models and stacks among the modules."""
    known = [stream for module in modules.values() if isinstance(module, Model) for stream in _of(module)]
    seen = {id(stream.stack) for stream in known}
    bare = [each for each in modules.values() if isinstance(each, Stack) and id(each) not in seen]
    return known + [Stream("", stack) for stack in bare]


def _of(model: Model) -> Iterator[Stream]:
    if isinstance(model, (Encoder, Decoder)):
        stack = model.encoder if isinstance(model, Encoder) else model.decoder
        yield Stream("", stack, model.embedding)
    elif isinstance(model, VisionEncoder):
        yield Stream("", model.encoder, model)
    elif isinstance(model, SpeechEncoder):
        behind = tuple(each for each in model.convolutions if isinstance(each, ConvolutionModule))
        yield Stream("", model.encoder, model, behind)
    elif isinstance(model, EncoderDecoder):
        source = Stream("encoder ", model.encoder, model.embedding)
        yield source
        yield Stream("decoder ", model.decoder, model.target_embedding, memory=source)


def supported() -> str:
    """Which models can be asked, in words."""
    kinds = ", ".join(
        each.__name__ for each in (Decoder, Encoder, EncoderDecoder, VisionEncoder, SpeechEncoder)
    )
    return (
        f"those of sightline.models ({kinds}) and the stacks of sightline.nn. A published "
        f"{', '.join(FAMILIES)} becomes one by sightline.models.from_huggingface(model)."
    )
