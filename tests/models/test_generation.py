"""Generation: against enumeration, frequencies, and each entry alone."""

from __future__ import annotations

import itertools

import pytest
import torch

from sightline.models import Decoder, DecoderConfig, EncoderDecoder, EncoderDecoderConfig
from sightline.models.generation import Decoding
from sightline.models.generation.next_token import NextToken


def model_of(vocabulary=5, **more):
    model = Decoder(
        DecoderConfig(width=16, heads=2, layers=1, vocabulary=vocabulary, positions="rotary", **more)
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.6)
    return model


def every_text(longest, end=2):
    return [
        text
        for n in range(1, longest + 1)
        for text in itertools.product(range(5), repeat=n)
        if end not in text[:-1] and (text[-1] == end or n == longest)
    ]


def likelihood(model, prompt, text):
    ids = torch.tensor([[*prompt, *text]])
    log_p = model(ids).log_softmax(-1)[0, len(prompt) - 1 : -1]
    return float(log_p.gather(-1, torch.tensor(text)[:, None]).sum())


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_wide_beam_finds_the_likeliest_of_all_texts(penalty):
    model, prompt, longest = model_of(end=2), [3, 1], 4
    with torch.no_grad():
        scores = {
            text: likelihood(model, prompt, text) / len(text) ** penalty for text in every_text(longest)
        }
    best = max(scores, key=scores.get)
    generated = model.generate(torch.tensor([prompt]), new_tokens=longest, beams=5**3, length_penalty=penalty)
    assert generated.lists() == [list(best)]
    assert generated.scores.item() == pytest.approx(scores[best], abs=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_candidates_are_the_likeliest_texts_in_order(penalty):
    model, prompts, longest = model_of(end=2), torch.tensor([[3, 1], [4, 4]]), 3
    generated = model.generate(prompts, new_tokens=longest, beams=5**3, candidates=5, length_penalty=penalty)
    for b, prompt in enumerate(prompts.tolist()):
        with torch.no_grad():
            scores = {
                text: likelihood(model, prompt, text) / len(text) ** penalty for text in every_text(longest)
            }
        best = sorted(scores, key=scores.get, reverse=True)[:5]
        assert generated.lists()[5 * b : 5 * b + 5] == [list(text) for text in best]


def test_candidates_that_there_are_not_are_empty():
    generated = model_of(end=2).generate(torch.tensor([[3, 1]]), new_tokens=1, beams=9, candidates=9)
    assert generated.lengths.tolist() == [1] * 5 + [0] * 4
    assert generated.scores.isfinite().tolist() == [True] * 5 + [False] * 4


@pytest.mark.parametrize("beams", [1, 3])
def test_a_padded_batch_equals_each_prompt_alone(beams):
    model = model_of(20, end=7, pad=0)
    ids, lengths = torch.randint(1, 20, (4, 6)), [6, 1, 3, 4]
    generated = model.generate(ids, lengths=lengths, new_tokens=9, beams=beams)
    for b, n in enumerate(lengths):
        alone = model.generate(ids[b : b + 1, :n], new_tokens=9, beams=beams)
        assert generated.lists()[b] == alone.lists()[0]
        assert generated.scores[b].item() == pytest.approx(alone.scores.item(), abs=1e-4)
        assert (generated.tokens[b, generated.lengths[b] :] == 0).all() and 0 not in generated.lists()[b]


@pytest.mark.parametrize("copying", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_sources_that_are_over_leave_the_batch(beams, copying, monkeypatch):
    torch.manual_seed(2)
    config = EncoderDecoderConfig(
        width=16, heads=2, layers=1, vocabulary=5, start=1, end=2, pad=0, positions="sinusoidal", copying=copying
    )  # fmt: skip
    model = EncoderDecoder(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter)
    sources, lengths = torch.randint(3, 5, (8, 5)), [5, 1, 3, 4, 2, 5, 4, 3]
    sources[torch.arange(8), torch.tensor(lengths) - 1] = 2
    rows, step = [], Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self, ids, *a: rows.append(len(ids)) or step(self, ids, *a))
    generated = model.generate(sources, source_lengths=lengths, new_tokens=12, beams=beams)
    assert min(generated.lengths) < max(generated.lengths)
    assert rows[-1] < beams * len(sources)
    for b, n in enumerate(lengths):
        alone = model.generate(sources[b : b + 1, :n], new_tokens=12, beams=beams)
        assert generated.lists()[b] == alone.lists()[0]
        assert generated.scores[b].item() == pytest.approx(alone.scores.item(), abs=1e-4)


def test_what_is_drawn_from():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 3.0, -9.0]])
    plain = (logits / 0.5).softmax(-1)
    torch.testing.assert_close(NextToken(0.5).probabilities(logits), plain)
    first = NextToken(0.5, top_k=2).probabilities(logits)[0]
    torch.testing.assert_close(first, torch.tensor([*(plain[0, :2] / plain[0, :2].sum()), 0, 0]))
    assert (NextToken(1.0, top_p=0.7).probabilities(logits)[0] > 0).tolist() == [True, True, False, False]
    assert (NextToken(1.0, top_p=0.01).probabilities(logits)[0] > 0).tolist() == [True, False, False, False]


def test_drawing_follows_the_probabilities_and_the_generator():
    model, prompt = model_of(), torch.tensor([[3, 1]]).expand(4000, -1)
    options = {"new_tokens": 1, "temperature": 0.8, "generator": torch.Generator().manual_seed(1)}
    frequencies = model.generate(prompt, **options).tokens[:, 0].bincount(minlength=5) / 4000
    with torch.no_grad():
        wanted = (model(prompt[:1])[0, -1] / 0.8).softmax(-1)
    torch.testing.assert_close(frequencies, wanted, atol=0.03, rtol=0)
    again = [
        model.generate(
            prompt[:5], new_tokens=6, temperature=1.0, generator=torch.Generator().manual_seed(3)
        ).tokens
        for _ in range(2)
    ]
    assert torch.equal(*again)


def test_training_mode_comes_back_and_dropout_is_off_meanwhile():
    model = model_of(20, dropout=0.5, attention_dropout=0.5).train()
    model.embedding.eval()
    one, two = (model.generate(torch.tensor([[1, 2]]), new_tokens=8) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens)
    assert model.training and model.decoder.training and not model.embedding.training


ERRORS = {
    "beams draw": ({"beams": 2, "temperature": 1.0}, "beams: a beam search draws nothing"),
    "candidates": ({"beams": 2, "candidates": 3}, "candidates: must be from 1 to beams=2, got 3"),
    "top_k": ({"top_k": 3}, "temperature: top_k and top_p need one above 0"),
    "top_p": ({"temperature": 1.0, "top_p": 0.0}, "top_p: must lie above 0"),
    "cold": ({"temperature": -1.0}, "temperature: must be 0"),
    "lengths": ({"lengths": [0]}, "lengths: must lie between 1 and N=2"),
    "batch": ({"lengths": [1, 1]}, "lengths: 2 numbers for a batch of B=1"),
    "tokens": ({"new_tokens": 0}, "new_tokens: must be 1 or more"),
    "room": ({"new_tokens": 8}, r"new_tokens: 8 after 2 .* model's 8 positions. Ask for 7 or fewer"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    options, message = ERRORS[name]
    model = Decoder(DecoderConfig(width=16, heads=2, layers=1, vocabulary=5, max_positions=8))
    with pytest.raises(ValueError, match=message):
        model.generate(torch.tensor([[1, 2]]), **{"new_tokens": 4, **options})


def test_exactly_as_much_as_there_is_room_for():
    model = Decoder(DecoderConfig(width=16, heads=2, layers=1, vocabulary=5, max_positions=8))
    assert model.generate(torch.tensor([[1, 2]]), new_tokens=7).tokens.shape == (1, 7)
