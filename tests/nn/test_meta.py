"""Models that are built without memory, on "meta", and get their weights later: nothing may stay behind."""

import contextlib

import pytest
import torch
from torch import nn as torch_nn

from sightline import models, nn

X, MEMORY, IDS = torch.randn(2, 5, 16), torch.randn(2, 7, 16), torch.randint(20, (2, 5))
SMALL = {"width": 16, "heads": 2, "layers": 2}
TEXT = {**SMALL, "vocabulary": 20, "max_positions": 16}
POSITIONS = ["learned", "sinusoidal", "sinusoidal-halves", "rotary", "alibi", "relative", "none"]

LAYERS = {
    "SelfAttention": (lambda: nn.SelfAttention(16, 4, kv_heads=2, rotary=nn.Rotary(4)), (X,)),
    "CrossAttention": (lambda: nn.CrossAttention(16, 4), (X, MEMORY)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), (X, X, X)),
    "FeedForward": (lambda: nn.FeedForward(16, activation="swiglu"), (X,)),
    "ConvolutionModule": (lambda: nn.ConvolutionModule(16, 3), (X,)),
    "LearnedPositions": (lambda: nn.LearnedPositions(8, 16), (X,)),
    "SinusoidalPositions": (lambda: nn.SinusoidalPositions(16), (X,)),
    "Rotary": (lambda: nn.Rotary(16), (torch.randn(2, 3, 5, 16),)),
    "TransformerBlock": (lambda: nn.TransformerBlock(16, 4, cross_attention=True, norm="rms"), (X, MEMORY)),
    "TransformerEncoder": (lambda: nn.TransformerEncoder(2, 16, 4, positions=nn.Alibi(4), window=2), (X,)),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(2, 16, 4, positions=nn.RelativePositions(4, bidirectional=False)), (X,),
    ),
}  # fmt: skip
MODELS = {
    **{
        f"Decoder, {positions}": (
            lambda positions=positions: models.Decoder(models.DecoderConfig(**TEXT, positions=positions)), (IDS,),
        )
        for positions in POSITIONS
    },
    "Encoder, alibi": (
        lambda: models.Encoder(
            models.EncoderConfig(**TEXT, head="classification", classes=3, pooler=True, positions="alibi")
        ), (IDS,),
    ),
    "EncoderDecoder, sinusoidal": (
        lambda: models.EncoderDecoder(models.EncoderDecoderConfig(**TEXT, positions="sinusoidal", start=1)), (IDS, IDS),
    ),
    "VisionEncoder": (
        lambda: models.VisionEncoder(
            models.VisionEncoderConfig(**SMALL, image_size=8, patch_size=4, stem=1, head="classification", classes=2)
        ), (torch.randn(2, 3, 8, 8),),
    ),
    "SpeechEncoder, rotary": (
        lambda: models.SpeechEncoder(
            models.SpeechEncoderConfig(**SMALL, features=6, vocabulary=5, head="ctc", convolution=3, positions="rotary")
        ), (torch.randn(2, 9, 6),),
    ),
}  # fmt: skip
EVERY = {**LAYERS, **MODELS}


@contextlib.contextmanager
def empty_weights(buffers):
    """As accelerate's init_empty_weights: what is registered is on meta, what is computed is not."""
    before = torch_nn.Module.register_parameter, torch_nn.Module.register_buffer

    def parameter(module, name, tensor):
        before[0](module, name, tensor)
        if tensor is not None:
            module._parameters[name] = torch_nn.Parameter(tensor.to("meta"), tensor.requires_grad)

    def buffer(module, name, tensor, persistent=True):
        before[1](module, name, tensor, persistent)
        if tensor is not None:
            module._buffers[name] = tensor.to("meta")

    torch_nn.Module.register_parameter = parameter
    if buffers:
        torch_nn.Module.register_buffer = buffer
    try:
        yield
    finally:
        torch_nn.Module.register_parameter, torch_nn.Module.register_buffer = before


WAYS = {
    "torch.device": lambda: torch.device("meta"),
    "empty weights": lambda: empty_weights(buffers=False),
    "empty weights and buffers": lambda: empty_weights(buffers=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_a_model_without_memory_gets_its_weights(name, way):
    make, inputs = EVERY[name]
    wanted = make().eval()
    with WAYS[way]():
        built = make().eval()
    assert all(weight.is_meta for weight in built.parameters())
    built.load_state_dict(wanted.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in (*built.parameters(), *built.buffers()))
    torch.testing.assert_close(first(built(*inputs)), first(wanted(*inputs)), rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_room_for_the_weights_without_their_values(name):
    make, inputs = EVERY[name]
    wanted = make().eval()
    with torch.device("meta"):
        built = make().eval()
    built.to_empty(device="cpu").load_state_dict(wanted.state_dict())
    torch.testing.assert_close(first(built(*inputs)), first(wanted(*inputs)), rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_shapes_are_known_without_memory(name):
    make, inputs = EVERY[name]
    shape = first(make().eval()(*inputs)).shape
    with torch.device("meta"):
        built = make().eval()
    output = first(built(*(tensor.to("meta") for tensor in inputs)))
    assert output.is_meta and output.shape == shape


@pytest.mark.parametrize("way", WAYS)
def test_alibi_by_itself(way):
    with WAYS[way]():
        alibi = nn.Alibi(4)
    alibi.load_state_dict({}, assign=True)
    assert torch.equal(alibi().slopes, nn.alibi_slopes(4))


def test_functions_that_make_tensors():
    with torch.device("meta"):
        made = nn.sinusoidal(4, 6), nn.alibi_slopes(3)
    assert [tensor.shape for tensor in made] == [(4, 6), (3,)] and all(tensor.is_meta for tensor in made)


@pytest.mark.parametrize("module", [nn.Alibi(6), nn.Rotary(8), nn.SinusoidalPositions(8)])
def test_casting_without_memory_rounds_nothing(module):
    (exact,) = module.double().buffers()
    (loaded,) = module.to("meta").bfloat16().to_empty(device="cpu").buffers()
    assert loaded.dtype == torch.float32 and torch.equal(loaded, exact.float())


def first(output):
    return output[0] if isinstance(output, tuple) else output
