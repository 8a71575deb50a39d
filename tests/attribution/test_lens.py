"""What the lens reads is what a plain computation in float64 gives, and parts add up to the logit."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import sightline
from attribution.running import lively, tokens, traced
from sightline.attribution.lens import reader
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    VisionEncoder,
    VisionEncoderConfig,
    from_huggingface,
)
from sightline.nn import TransformerDecoder

TEXT = {"width": 32, "heads": 4, "layers": 2, "vocabulary": 50}
BOTH = {**TEXT, "start": 1, "end": 2}


def decoder(**more: Any) -> Any:
    return lively(Decoder(DecoderConfig(**TEXT, **more)))


def pair(**more: Any) -> Any:
    return lively(EncoderDecoder(EncoderDecoderConfig(**BOTH, **more)))


MODELS = {
    "decoder": (lambda: decoder(), (tokens(),)),
    "untied, with a bias": (lambda: decoder(tied=False, head_bias=True), (tokens(),)),
    "post-norm": (lambda: decoder(norm_first=False), (tokens(),)),
    "rms, grouped, no biases": (
        lambda: decoder(norm="rms", kv_heads=2, bias=False, activation="swiglu", positions="rotary"),
        (tokens(),),
    ),
    "embedding norm and scale": (
        lambda: decoder(embedding_norm=True, embedding_scale=True, positions="sinusoidal"),
        (tokens(),),
    ),
    "encoder-decoder": (lambda: pair(), (tokens(), tokens(2, 5))),
    "encoder-decoder, post-norm": (lambda: pair(norm_first=False), (tokens(), tokens(2, 5))),
}


def by_hand(model: Any, *given: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The stream [B,N,C] at every stage, computed in float64 by adding what modules give; and the logits."""
    model = copy.deepcopy(model).double()
    made: dict[int, torch.Tensor] = {}
    hooks = [
        each.register_forward_hook(
            lambda module, args, output: made.update(
                {id(module): output[0] if isinstance(output, tuple) else output}
            )
        )
        for each in model.modules()
    ]
    with torch.no_grad():
        logits = model(*given)
    for hook in hooks:
        hook.remove()
    stack = model.encoder if isinstance(model, Encoder) else model.decoder
    start = model.target_embedding if isinstance(model, EncoderDecoder) else model.embedding
    x = made[id(start)]
    stream = [x]
    for block in stack.blocks:
        pieces = [(block.self_attention, block.self_attention_norm)]
        if block.cross_attention is not None:
            pieces.append((block.cross_attention, block.cross_attention_norm))
        for module, norm in [*pieces, (block.feed_forward, block.feed_forward_norm)]:
            x = x + made[id(module)]
            with torch.no_grad():
                x = x if block.norm_first else norm(x)
            stream.append(x)
    return stream, logits


def read_by_hand(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Logits of vectors [C] of the stream of a model with a plain head."""
    model = copy.deepcopy(model).double()
    weight = model.embedding.tokens.weight if model.head.weight is None else model.head.weight
    with torch.no_grad():
        return F.linear(model.decoder.norm(x), weight, model.head.bias)


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_is_read_as_if_it_were_the_last(name):
    make, given = MODELS[name]
    model = make()
    stream, logits = by_hand(model, *given)
    trace = traced(model, *given)
    lens = trace.lens(3, k=50, batch=1)
    assert len(lens.stages) == len(stream)
    for at, x in enumerate(stream):
        wanted = read_by_hand(model, x[1, 3])
        found = torch.empty(50, dtype=torch.float64).scatter(0, lens.tokens[at], lens.logits[at])
        assert (found - wanted).abs().max() < 2e-5
        shares = torch.empty(50, dtype=torch.float64).scatter(0, lens.tokens[at], lens.probabilities[at])
        assert (shares - wanted.softmax(0)).abs().max() < 1e-5
        assert (lens.logits[at].diff() <= 0).all()
    assert (lens.logits[-1] - logits[1, 3].sort(descending=True).values).abs().max() < 2e-5
    word = int(lens.tokens[0, 7])
    followed = lens.follow(word)
    assert followed.ranks[0] == 8
    assert followed.probabilities[0] == pytest.approx(float(lens.probabilities[0, 7]))
    assert followed.logits[0] == pytest.approx(float(lens.logits[0, 7]))


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up_to_the_logit(name):
    make, given = MODELS[name]
    model = make()
    with torch.no_grad():
        logits = model(*given)
    lens = traced(model, *given).lens(-1, batch=1)
    for token in (None, 3, 49):
        found = lens.contributions(token)
        assert found.token == (int(logits[1, -1].argmax()) if token is None else token)
        assert abs(float(found.values.sum()) - float(logits[1, -1, found.token])) < 1e-4
    less = lens.contributions(3, against=7)
    assert abs(float(less.values.sum()) - float(logits[1, -1, 3] - logits[1, -1, 7])) < 1e-4
    assert (less.values - (lens.contributions(3).values - lens.contributions(7).values)).abs().max() < 1e-9


def test_parts_are_those_of_a_computation_by_hand():
    model = decoder(tied=False, head_bias=True)
    double = copy.deepcopy(model).double()
    ids = tokens()
    stream, _ = by_hand(model, ids)
    contexts: dict[int, torch.Tensor] = {}
    for at, block in enumerate(double.decoder.blocks):
        block.self_attention.output.register_forward_pre_hook(
            lambda _, args, at=at: contexts.update({at: args[0][0, 5]})
        )
    with torch.no_grad():
        double(ids)
        norm, end = double.decoder.norm, stream[-1][0, 5]
        rate = (end.var(correction=0) + norm.eps).rsqrt()

        def reads(vector: torch.Tensor) -> float:
            """What a vector of the stream brings to word 11, by the norm as it was."""
            return float((norm.weight * (vector - vector.mean()) * rate) @ double.head.weight[11])

        wanted = {"tokens": reads(double.embedding.tokens.weight[ids[0, 5]])}
        wanted["positions"] = reads(double.embedding.positions.weight[5])
        for at, block in enumerate(double.decoder.blocks):
            weight, context = block.self_attention.output.weight, contexts[at]
            for head in range(4):
                own = slice(8 * head, 8 * head + 8)
                wanted[f"layer {at} head {head}"] = reads(weight[:, own] @ context[own])
            wanted[f"layer {at} output bias"] = reads(block.self_attention.output.bias)
            wanted[f"layer {at} feed-forward"] = reads((stream[2 * at + 2] - stream[2 * at + 1])[0, 5])
        wanted["norm biases"] = float(norm.bias @ double.head.weight[11])
        wanted["word bias"] = float(double.head.bias[11])
    found = traced(model, ids).lens(5).contributions(11)
    assert set(found.parts) == set(wanted)
    for name, value in zip(found.parts, found.values.tolist(), strict=True):
        assert value == pytest.approx(wanted[name], abs=2e-5), name
    assert float(found.heads[1, 2]) == pytest.approx(wanted["layer 1 head 2"], abs=2e-5)
    largest = max(wanted, key=lambda name: abs(wanted[name]))
    assert found.top(1)[0][0] == largest
    assert f"{wanted[largest]:+9.3f}  {largest}" in repr(found)


def test_cross_attention_has_its_own_stages_and_heads():
    model = pair()
    lens = traced(model, tokens(), tokens(2, 5)).lens(2)
    assert lens.stages[:4] == (
        "embedding", "layer 0 attention", "layer 0 cross-attention", "layer 0 feed-forward",
    )  # fmt: skip
    found = lens.contributions()
    assert found.heads.shape == found.cross_heads.shape == (2, 4)
    at = found.parts.index("layer 1 cross head 3")
    assert found.cross_heads[1, 3] == found.values[at]
    assert decoder_lens().contributions().cross_heads.shape == (0, 0)


def decoder_lens(**asked: Any) -> Any:
    return traced(decoder(), tokens()).lens(4, **asked)


def test_a_model_that_copies_is_read_before_it_does():
    model = pair(copying=True)
    given = (tokens(), tokens(2, 5))
    lens = traced(model, *given).lens(2, k=50)
    plain = pair()
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        logits = plain(*given)[0, 2]
    assert (lens.logits[-1] - logits.sort(descending=True).values).abs().max() < 2e-5
    assert "copied" in lens.note
    assert abs(lens.contributions().remainder) < 1e-4


def test_a_masked_token_model_is_read_through_its_whole_head():
    model = lively(Encoder(EncoderConfig(**TEXT, head="masked-token", norm_first=False, segments=2)))
    stream, logits = by_hand(model, tokens())
    lens = traced(model, tokens()).lens(4, k=50)
    double = copy.deepcopy(model).double()
    for at, x in enumerate(stream):
        with torch.no_grad():
            wanted = double.head(x[0, 4], double.embedding.tokens.weight)
        assert (lens.logits[at] - wanted.sort(descending=True).values).abs().max() < 5e-5
    assert (lens.logits[-1] - logits[0, 4].sort(descending=True).values).abs().max() < 5e-5
    with pytest.raises(ValueError, match=r"who brought a word cannot be said .* not linear"):
        lens.contributions()


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_classifier_without_pooler_is_read_as_labels(pooling):
    config = EncoderConfig(**TEXT, head="classification", classes=3, pooling=pooling)
    model = lively(Encoder(config))
    with torch.no_grad():
        logits = model(tokens(1))[0]
    trace = traced(model, tokens(1))
    lenses = [trace.lens(at) for at in range(9 if pooling == "mean" else 1)]
    assert lenses[0].tokens.shape[1] == 3 and pooling in ("mean", "first") and lenses[0].note
    for label in range(3):
        parts = [lens.contributions(label) for lens in lenses]
        own = torch.tensor([float(lens.follow(label).logits[-1]) for lens in lenses])
        assert float(own.mean()) == pytest.approx(float(logits[label]), abs=1e-4)
        brought = torch.stack([each.values for each in parts]).mean(0)
        assert float(brought.sum()) == pytest.approx(float(logits[label]), abs=1e-4)
        assert parts[0].parts[-1] == "label bias"


def test_labels_of_tokens_are_read_at_each():
    model = lively(Encoder(EncoderConfig(**TEXT, head="token-classification", classes=4, norm_first=False)))
    with torch.no_grad():
        logits = model(tokens())
    lens = traced(model, tokens()).lens(5, batch=1)
    assert (lens.logits[-1] - logits[1, 5].sort(descending=True).values).abs().max() < 2e-5
    assert abs(lens.contributions().remainder) < 1e-4


def test_layers_and_words_are_chosen():
    names = [f"word{at}" for at in range(50)]
    lens = decoder_lens(layers=[-1], k=2, words=names)
    assert lens.stages == ("layer 1 attention", "layer 1 feed-forward")
    assert lens.words == [[names[i] for i in row] for row in lens.tokens.tolist()]
    assert f"'{names[int(lens.tokens[-1, 0])]}'" in repr(lens)
    assert lens.follow(3).ranks.shape == (2,)
    whole = decoder_lens(k=2)
    assert whole.tokens[3:].equal(lens.tokens)
    assert decoder_lens(layers=0, words=str).stages == ("layer 0 attention", "layer 0 feed-forward")
    told = json.loads(json.dumps(lens.to_dict()))
    assert told["words"] == lens.words and told["position"] == 4
    brought = json.loads(json.dumps(lens.contributions(3).to_dict()))
    assert brought["word"] == "word3" and len(brought["values"]) == len(brought["parts"])


def test_many_positions_are_read_in_pieces(monkeypatch):
    from sightline.attribution.lens.asked import word_stream

    trace = traced(decoder(), tokens())
    stream = word_stream(trace._residual)
    rows = torch.arange(9)
    whole = reader.read_words(stream, 1, rows, 3)
    parts = reader.read_parts(stream, 1, rows, whole.final)
    total = torch.stack(list(parts.values())).sum(0)
    assert (total - whole.logit_of_final[:, -1]).abs().max() < 1e-4
    monkeypatch.setattr(reader, "_HELD", 600)
    for found, wanted in zip(reader.read_words(stream, 1, rows, 3), whole, strict=True):
        assert torch.allclose(found, wanted)
    again = reader.read_parts(stream, 1, rows, whole.final)
    assert all(torch.allclose(again[name], parts[name]) for name in parts)
    for at in (0, 8):
        alone = trace.lens(at, k=3, batch=1)
        assert alone.tokens.equal(whole.words[at])
        assert torch.allclose(
            alone.contributions().values, torch.stack([each[at] for each in parts.values()])
        )


def test_steps_of_a_generation_are_one_stream():
    model = decoder()
    with torch.no_grad(), sightline.trace(model, residual=True) as steps:
        written = model.generate(tokens(1, 4), new_tokens=5).tokens
    ids = torch.cat((tokens(1, 4), written), 1)[:, :-1]
    whole = traced(model, ids).lens(6)
    found = steps.lens(6)
    assert found.tokens.equal(whole.tokens) and torch.allclose(found.logits, whole.logits, atol=1e-5)
    assert found.tokens[-1, 0] == written[0, 3]


def test_half_precision_is_read_and_adds_up():
    model = decoder().bfloat16()
    lens = traced(model, tokens()).lens(4)
    assert abs(lens.contributions().remainder) < 0.1


@pytest.mark.parametrize(
    "asked, error, message",
    [
        ({"position": 9}, ValueError, r"position: must lie between -9 and 8, got 9"),
        ({"position": 1.5}, TypeError, "position: must be an integer, got 1.5"),
        ({"position": 0, "k": 0}, ValueError, "k: must lie between 1 and 50, got 0"),
        ({"position": 0, "k": 51}, ValueError, "k: must lie between 1 and 50, got 51"),
        ({"position": 0, "batch": 2}, ValueError, "batch: must lie between -2 and 1, got 2"),
        ({"position": 0, "layers": [2]}, ValueError, "layers: must lie between -2 and 1, got 2"),
        ({"position": 0, "layers": []}, ValueError, "layers: none was named"),
        ({"position": 0, "layers": "all"}, TypeError, "layers: must be an integer, got 'all'"),
        ({"position": 0, "words": "abc"}, TypeError, "words: a function of an id, or a list of V strings"),
        ({"position": 0, "words": ["a"]}, ValueError, "words: there are 1, but the vocabulary has V=50"),
        ({"position": 0, "model": "x"}, ValueError, "model: 'x' writes no words; these do: ''"),
    ],
)
def test_what_is_asked_for_is_not_there(asked, error, message):
    with pytest.raises(error, match=message):
        traced(decoder(), tokens()).lens(**asked)


def test_words_that_are_not_there():
    lens = decoder_lens()
    for ask in (lens.follow, lens.contributions):
        with pytest.raises(ValueError, match="token: must lie between 0 and 49, got 50"):
            ask(50)
    with pytest.raises(ValueError, match="against: must lie between 0 and 49, got -1"):
        lens.contributions(3, against=-1)


def test_models_that_write_no_words():
    picture = lively(
        VisionEncoder(
            VisionEncoderConfig(width=32, heads=4, layers=1, image_size=8, patch_size=4, channels=1)
        )
    )
    classes = lively(Encoder(EncoderConfig(**TEXT, head="classification", classes=2, pooler=True)))
    stack = lively(TransformerDecoder(1, 16, heads=2))
    for model, given in (
        (picture, torch.randn(1, 1, 8, 8)),
        (classes, tokens()),
        (stack, torch.randn(1, 5, 16)),
    ):
        with pytest.raises(ValueError, match="lens: no model here has an output matrix"):
            traced(model, given).lens(0)


def test_several_models_are_asked_by_name():
    both = torch.nn.ModuleDict({"one": decoder(), "two": decoder(norm="rms")})
    with torch.no_grad(), sightline.trace(both, residual=True) as trace:
        logits = [both[name](tokens()) for name in ("one", "two")]
    with pytest.raises(ValueError, match="model: there are 'one', 'two'. Name one of them"):
        trace.lens(0)
    for name, wanted in zip(("one", "two"), logits, strict=True):
        found = trace.lens(0, model=name).logits[-1, 0]
        assert float(found) == pytest.approx(float(wanted[0, 0].max()), abs=1e-4)


def test_what_cannot_be_known_is_refused():
    model = decoder()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(tokens())
    with pytest.raises(ValueError, match=r"lens: this trace holds nothing .*residual=True"):
        trace.lens(0)
    trace = traced(model, tokens())
    with torch.no_grad():
        model.decoder.blocks[0].self_attention.output.weight.mul_(1.5)
    with pytest.raises(
        ValueError, match="lens: what the layers wrote is not the stream that the model ended in"
    ):
        trace.lens(0)
    noisy = lively(Decoder(DecoderConfig(**TEXT, dropout=0.1))).train()
    with pytest.raises(ValueError, match=r"dropout was on, .* Call model\.eval\(\)"):
        traced(noisy, tokens()).lens(0)


def published(kind: str, **more: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    size = {"vocab_size": 50, "initializer_range": 0.4}
    if kind == "GPT2":
        config = transformers.GPT2Config(**size, n_embd=32, n_layer=2, n_head=4, n_positions=32, **more)
        return lively(transformers.GPT2LMHeadModel(config))
    body = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    masked = kind == "Bert"
    grouped = {} if masked or kind == "GPTNeoX" else {"num_key_value_heads": 2, "head_dim": 16}
    config = getattr(transformers, f"{kind}Config")(**size, **body, **grouped, **more)
    return lively(getattr(transformers, f"{kind}For{'MaskedLM' if masked else 'CausalLM'}")(config))


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Gemma", "GPTNeoX", "Bert"])
def test_models_of_transformers(kind):
    model = published(kind)
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        output = model(tokens(), output_hidden_states=True)
    lens = trace.lens(4, k=50, batch=1)
    # Transformers' own streams: in front of each block; the last one has gone through the norm already.
    for layer in range(2):
        x = output.hidden_states[layer][1, 4]
        with torch.no_grad():
            wanted = read_published(model, kind, x)
        after = (
            "embedding"
            if layer == 0
            else next(each for each in reversed(lens.stages) if each.startswith("layer 0"))
        )
        assert (
            lens.logits[lens.stages.index(after)] - wanted.sort(descending=True).values
        ).abs().max() < 1e-4
    assert (lens.logits[-1] - output.logits[1, 4].sort(descending=True).values).abs().max() < 1e-4
    if kind == "Bert":
        assert lens.stages == ("embedding", "layer 0", "layer 1")
        with pytest.raises(ValueError, match="layers with an activation stand before its output matrix"):
            lens.contributions()
        return
    for token in (None, 3):
        found = lens.contributions(token)
        assert abs(float(found.values.sum()) - float(output.logits[1, 4, found.token])) < 1e-4
    assert found.heads.shape == (2, 4)
    with pytest.raises(ValueError, match="why: what writes to this model's stream is known of"):
        trace.why(0, 0, 3, 2)


def read_published(model: Any, kind: str, x: torch.Tensor) -> torch.Tensor:
    if kind == "Bert":
        return model.cls(x)
    norm = {"GPT2": "transformer.ln_f", "GPTNeoX": "gpt_neox.final_layer_norm"}.get(kind, "model.norm")
    return model.get_output_embeddings()(model.get_submodule(norm)(x))


def test_both_readings_of_gpt2_agree():
    model = published("GPT2")
    own = traced(from_huggingface(model), tokens()).lens(4, batch=1)
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model(tokens())
    theirs = trace.lens(4, batch=1)
    assert theirs.stages == own.stages and torch.allclose(theirs.logits, own.logits, atol=1e-4)
    one, other = own.contributions(7), theirs.contributions(7)
    ours = dict(zip(one.parts, one.values.tolist(), strict=True))
    ours["embedding"] = ours.pop("tokens") + ours.pop("positions")
    assert ours == pytest.approx(dict(zip(other.parts, other.values.tolist(), strict=True)), abs=1e-4)


def test_steps_of_a_generation_in_half_precision_of_gpt2():
    model = published("GPT2").bfloat16()
    with torch.no_grad(), sightline.trace(model, residual=True) as steps:
        ids = model.generate(tokens(1, 4), max_new_tokens=4, do_sample=False)
    with torch.no_grad(), sightline.trace(model, residual=True) as whole:
        logits = model(ids[:, :-1]).logits
    lens = steps.lens(5)
    assert lens.stages == whole.lens(5).stages and lens.stages[-1] == "layer 1 feed-forward"
    assert lens.follow(3).logits[-1] == pytest.approx(float(logits[0, 5, 3]), abs=0.2)
    assert abs(lens.contributions().remainder) < 1e-6
    with torch.no_grad(), sightline.trace(model.train(), residual=True) as noisy:
        model(ids)
    with pytest.raises(ValueError, match="dropout was on"):
        noisy.lens(0)


def test_models_of_transformers_that_are_not_understood():
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 4}  # fmt: skip
    with pytest.raises(ValueError, match="residual: BertModel has no output matrix.*AutoModelForCausalLM"):
        sightline.trace(transformers.BertModel(transformers.BertConfig(**small)), residual=True)
    capped = transformers.Gemma2Config(
        **small, num_key_value_heads=2, head_dim=8, final_logit_softcapping=30.0
    )
    with pytest.raises(ValueError, match=r"changed at the end \(final_logit_softcapping\) cannot be read"):
        sightline.trace(transformers.Gemma2ForCausalLM(capped), residual=True)
    bart = transformers.BartConfig(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1,
                                   encoder_attention_heads=2, decoder_attention_heads=2)  # fmt: skip
    with pytest.raises(ValueError, match="two streams of an encoder-decoder cannot be read here"):
        sightline.trace(transformers.BartForConditionalGeneration(bart), residual=True)
    distil = transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    with pytest.raises(ValueError, match="the layers in front of its output matrix cannot be read"):
        sightline.trace(transformers.DistilBertForMaskedLM(distil), residual=True)


def test_norms_behind_attention_leave_the_words_but_not_the_parts():
    model = published("Gemma2", final_logit_softcapping=None)
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        logits = model(tokens()).logits
    lens = trace.lens(4)
    assert lens.stages == ("embedding", "layer 0", "layer 1")
    assert float(lens.logits[-1, 0]) == pytest.approx(float(logits[0, 4].max()), abs=1e-4)
    with pytest.raises(
        ValueError, match="do more than add what their heads and their feed-forward layer wrote"
    ):
        lens.contributions()
