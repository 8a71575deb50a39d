"""Our models: padding, training, traces, precision."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import sightline
from cases import close
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    Model,
    SpeechEncoder,
    SpeechEncoderConfig,
    TransformerConfig,
    VisionEncoder,
    VisionEncoderConfig,
)
from sightline.models.padding import padding_mask

SMALL = {"width": 32, "heads": 4, "layers": 2}
TEXT = {**SMALL, "vocabulary": 40, "pad": 0}
WRITER = {**TEXT, "start": 1, "end": 2}
POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative"]


def encoder(**more) -> Encoder:
    return Encoder(EncoderConfig(**{**TEXT, **more}))


def decoder(**more) -> Decoder:
    return Decoder(DecoderConfig(**{**WRITER, **more}))


def encoder_decoder(**more) -> EncoderDecoder:
    return EncoderDecoder(EncoderDecoderConfig(**{**WRITER, **more}))


def vision(**more) -> VisionEncoder:
    return VisionEncoder(VisionEncoderConfig(**{**SMALL, **more}))


def speech(**more) -> SpeechEncoder:
    return SpeechEncoder(SpeechEncoderConfig(**{**SMALL, "vocabulary": 40, **more}))


def stirred(model):
    """With weights of order 1, so that mistakes show."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


@pytest.mark.parametrize("head", ["none", "masked-token", "classification", "token-classification"])
def test_a_padded_batch_equals_each_entry_alone(head):
    model = stirred(encoder(head=head, classes=3, positions="rotary", segments=2))
    ids, lengths = torch.randint(3, 40, (2, 9)), [9, 4]
    output = model(ids, lengths=lengths)
    for b, n in enumerate(lengths):
        alone = model(ids[b : b + 1, :n])[0]
        close(output[b] if output.dim() == 2 else output[b, :n], alone, 2e-5)


@pytest.mark.parametrize("options", [{}, {"convolution": 5}, {"subsampling": 2}, {"subsampling": 1}])
@pytest.mark.parametrize("head", ["ctc", "classification", "none"])
def test_padded_speech_equals_each_recording_alone(head, options):
    model = stirred(speech(head=head, classes=3, features=8, positions="sinusoidal", **options))
    every = model.config.subsampling
    assert model.output_lengths([41, 18, 7]).tolist() == [-(-n // every) for n in (41, 18, 7)]
    frames, lengths = torch.randn(3, 41, 8), [41, 18, 7]
    output = model(frames, lengths=lengths)
    for b, (n, m) in enumerate(zip(lengths, model.output_lengths(lengths).tolist(), strict=True)):
        alone = model(frames[b : b + 1, :n])[0]
        close(output[b] if output.dim() == 2 else output[b, :m], alone, 2e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_decoder_looks_back_only_and_a_cache_changes_nothing(positions):
    model = stirred(decoder(positions=positions, kv_heads=2, norm="rms", activation="swiglu"))
    ids = torch.randint(3, 40, (2, 9))
    whole, cache = model(ids), model.make_cache()
    with torch.no_grad():
        steps = torch.cat([model(part, cache=cache) for part in ids.split([4, 1, 3, 1], 1)], 1)
    close(steps, whole, 2e-5)
    close(model(ids[:, :5]), whole[:, :5], 2e-5)
    assert (whole[:, 5:] - model(ids.roll(1, 1))[:, 5:]).abs().max() > 0.1


def overfits(model, loss_of, steps, rate=3e-3):
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=rate)
    first = last = None
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    model.eval()
    assert last < 0.05 < first, (first, last)


def test_a_decoder_learns_eight_sequences_and_writes_them():
    model, ids = decoder(positions="rotary"), torch.randint(3, 40, (8, 12))
    ids[:, 0] = torch.arange(3, 11)
    ids[:, -1] = 2
    overfits(model, lambda: F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()), 120)
    assert model.generate(ids[:, :1], new_tokens=20).lists() == ids[:, 1:].tolist()


@pytest.mark.parametrize("copying", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_encoder_decoder_learns_eight_pairs_and_writes_them(copying):
    model = encoder_decoder(copying=copying)
    source, target = torch.randint(3, 40, (8, 7)), torch.randint(3, 40, (8, 9))
    target[:, -1] = 2
    lengths = torch.tensor([7, 6, 5, 4, 7, 6, 5, 4])
    overfits(
        model,
        lambda: F.cross_entropy(
            model(source, model.shifted(target), source_lengths=lengths).flatten(0, 1), target.flatten()
        ),
        200,
    )
    for beams in (1, 3):
        assert (
            model.generate(source, source_lengths=lengths, new_tokens=15, beams=beams).lists()
            == target.tolist()
        )


def test_copying_mixes_the_vocabulary_with_the_source():
    """Against the mixture written out, entry by entry."""
    model = stirred(encoder_decoder(copying=True))
    source, target = torch.randint(3, 40, (2, 6)), torch.randint(3, 40, (2, 4))
    lengths = torch.tensor([6, 2])
    with torch.no_grad():
        log_p = model(source, target, source_lengths=lengths)
        memory = model.encode(source, lengths)
        states = model.decoder(model.target_embedding(target), memory, memory_mask=padding_mask(lengths))
        head = model.copying
        for b, n in ((0, 1), (1, 3)):
            own = int(lengths[b])
            scores = head.key(memory[b, :own]) @ head.query(states[b, n]) / model.config.width**0.5
            weights = scores.softmax(0)
            gate = head.gate(torch.cat((states[b, n], weights @ memory[b, :own]))).sigmoid()
            p = gate * model.head(states[b, n], model.embedding.tokens.weight).softmax(0)
            for token, weight in zip(source[b, :own].tolist(), weights, strict=True):
                p[token] += (1 - gate[0]) * weight
            close(log_p[b, n].exp(), p, 1e-5)


@pytest.mark.parametrize("copying", [False, True])
def test_places_that_are_wanted_are_rows_of_all_logits(copying):
    model = stirred(encoder_decoder(copying=copying))
    source, target = torch.randint(3, 40, (3, 6)), torch.randint(3, 40, (3, 5))
    wanted = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    given = {"source_lengths": [6, 2, 4]}
    chosen, whole = model(source, target, wanted=wanted, **given), model(source, target, **given)
    assert chosen.shape == (10, 40)
    close(chosen, whole[wanted], 1e-6)


def test_speech_learns_under_ctc_and_images_their_classes():
    model = speech(head="ctc", features=8, positions="sinusoidal", vocabulary=6)
    frames, labels, lengths = (
        torch.randn(4, 40, 8),
        torch.randint(1, 6, (4, 3)),
        torch.tensor([40, 40, 30, 30]),
    )

    def loss():
        log_p = model(frames, lengths=lengths).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(log_p, labels, model.output_lengths(lengths), torch.full((4,), 3))

    overfits(model, loss, 150)
    model = vision(head="classification", classes=4, image_size=8, patch_size=4, channels=1)
    images, classes = torch.randn(4, 1, 8, 8), torch.arange(4)
    overfits(model, lambda: F.cross_entropy(model(images), classes), 60)


def test_a_stem_keeps_patches_in_their_places():
    """What enters the blocks at 1 + r·w + c changes with the patch in row r and column c, and with its edge only."""
    shape = {"image_size": 24, "patch_size": 8, "channels": 1}
    for stem, width in ((0, None), (1, 32), (2, 16), (3, 8)):
        model = vision(stem=stem, **shape).eval()
        assert width is None or model.stem[0].out_channels == width
        images = torch.randn(1, 1, 24, 24, requires_grad=True)
        (gradient,) = torch.autograd.grad(model._embedded(images)[0, 1 + 1 * 3 + 2].sum(), images)
        rows, columns = gradient[0, 0].nonzero(as_tuple=True)
        reach = 2**stem - 1  # pixels before the patch: each convolution sees one more of its own
        assert (8 - reach, 15) == (int(rows.min()), int(rows.max())), stem
        assert (16 - reach, 23) == (int(columns.min()), int(columns.max())), stem


def traced(model, *inputs, **options):
    with torch.no_grad(), sightline.trace(model) as trace:
        _, matrices = model(*inputs, return_matrices=True, **options)
    assert not trace.unverified, [call.reason for call in trace.unverified]
    return [(call.name, call.kind) for call in trace], [call.matrix for call in trace], matrices


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_trace_sees_an_encoders_attention(positions):
    model = stirred(encoder(positions=positions))
    names, seen, handed = traced(model, torch.randint(3, 40, (2, 9)), lengths=[9, 4])
    assert names == [(f"encoder.blocks.{i}.self_attention", "self") for i in range(2)]
    for one, other in zip(seen, handed, strict=True):
        close(one.dense(), other.dense(), 1e-6)


def test_a_trace_sees_an_encoder_decoders_attention():
    model = stirred(encoder_decoder(decoder_layers=1))
    source, target = torch.randint(3, 40, (2, 9)), torch.randint(3, 40, (2, 5))
    names, seen, handed = traced(model, source, target, source_lengths=[9, 4])
    assert names[2:] == [
        ("decoder.blocks.0.self_attention", "self"),
        ("decoder.blocks.0.cross_attention", "cross"),
    ]
    close(seen[-1].dense(), handed.cross_attention[0].dense(), 1e-6)


def test_a_trace_of_generation_is_verified():
    model = stirred(decoder(positions="rotary", end=None))
    with sightline.trace(model) as trace:
        model.generate(torch.randint(3, 40, (2, 5)), lengths=[5, 2], new_tokens=4)
    assert len(trace) == 2 and not trace.unverified
    assert trace[0].matrix.shape == (2, 4, 8, 8)
    pair = stirred(encoder_decoder(end=None))
    with sightline.trace(pair) as trace:
        pair.generate(torch.randint(3, 40, (2, 5)), source_lengths=[5, 2], new_tokens=4)
    assert not trace.unverified
    assert trace["decoder.blocks.1.cross_attention"].matrix.shape == (2, 4, 4, 5)


def test_a_deep_model_starts_calm():
    deep = decoder(layers=24, width=64)
    x = deep.states(torch.randint(3, 40, (2, 30)))
    logits = deep.logits(x)
    assert logits.std() < 0.5
    stds = {
        round(block.feed_forward.output.weight.std().item() * 48**0.5, 2) for block in deep.decoder.blocks
    }
    assert stds == {0.02}


def test_bfloat16_and_autocast_stay_near():
    model = stirred(decoder(positions="rotary", width=64))
    for parameter in model.parameters():
        parameter.data.mul_(0.4 if parameter.dim() > 1 else 1)
    ids = torch.randint(3, 40, (2, 20))
    wanted = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        close(model(ids).float(), wanted, 0.06)
    half = model.bfloat16()
    assert half(ids).dtype == torch.bfloat16
    close(half(ids).float(), wanted, 0.06)


ERRORS = {
    "head": (lambda: encoder(head="ctc"), "head: there is no 'ctc'; known: none, masked-token, class"),
    "no head": (
        lambda: DecoderConfig.from_dict({**WRITER, "head": "ctc"}),
        "head: 'ctc' belongs to another model; DecoderConfig has no head",
    ),
    "choice": (lambda: decoder(positions="rope"), "positions: there is no 'rope'; known: learned"),
    "classes": (lambda: encoder(head="classification"), "classes: a classification head needs 1 or more"),
    "token": (lambda: decoder(end=40), "end: 40 does not lie in the vocabulary of 40"),
    "size": (lambda: decoder(layers=0), "layers: must be 1 or more, got 0"),
    "patch": (lambda: vision(image_size=10, patch_size=4), "patch_size: 4 does not divide"),
    "stem": (
        lambda: vision(image_size=8, patch_size=4, stem=3),
        "stem: 3 convolutions do not halve a patch_size of 4 and a width of 32 without rest",
    ),
    "no stem": (lambda: vision(stem=-1), "stem: must be 0 or more, got -1"),
    "image": (
        lambda: vision(image_size=8, patch_size=4)(torch.zeros(1, 3, 8, 9)),
        r"takes \[B, 3, 8, 8\]",
    ),
    "frames": (lambda: speech(features=8)(torch.zeros(1, 9, 7)), "with F=8 features"),
    "segments": (
        lambda: encoder()(torch.zeros(1, 2, dtype=int), segments=torch.zeros(1, 2, dtype=int)),
        "segments: this model has none",
    ),
    "positions": (lambda: decoder(max_positions=4)(torch.zeros(1, 5, dtype=int)), "positions 0 to 4"),
    "start": (
        lambda: encoder_decoder(start=None).generate(torch.ones(1, 2, dtype=int)),
        "start: the configuration names no token",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


CONFIGS = {
    Encoder: EncoderConfig,
    Decoder: DecoderConfig,
    EncoderDecoder: EncoderDecoderConfig,
    VisionEncoder: VisionEncoderConfig,
    SpeechEncoder: SpeechEncoderConfig,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_model_names_its_own_configuration(kind):
    assert issubclass(kind, Model) and kind.config_class is CONFIGS[kind]
    assert issubclass(CONFIGS[kind], TransformerConfig)
    given = CONFIGS[kind](width=24, heads=3)
    assert CONFIGS[kind].from_dict(given.to_dict()) == given
    assert copy.deepcopy(given) == given and pickle.loads(pickle.dumps(given)) == given
    other = VisionEncoderConfig if kind is not VisionEncoder else DecoderConfig
    with pytest.raises(
        TypeError, match=f"config: {kind.__name__} takes its own {CONFIGS[kind].__name__}, got a"
    ):
        kind(other(width=24, heads=3))


def test_the_shared_base_is_not_made_by_itself():
    with pytest.raises(TypeError, match="TransformerConfig: holds what all models share.* EncoderConfig"):
        TransformerConfig(width=32, vocabulary=50)


def test_models_need_torch_alone_and_load_late():
    code = (
        "import sys, sightline; assert 'models' in dir(sightline) and 'sightline.models' not in sys.modules; "
        "sightline.models.Decoder; print([m for m in ('transformers', 'tokenizers', 'safetensors') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
