"""The page of a trace: whatever was traced, its weights equal Python's, and errors say what to do."""

from __future__ import annotations

import functools
from trace.families import FAMILIES, make

import pytest
import torch
from torch.nn import functional

import sightline
from sightline.reading import traced
from sightline.reading.tokens import places_of, tokens_of_strings
from sightline.view import page_size

from .test_page import check_weights, meta_of, needs_node, weights_in_page  # noqa: F401  (a fixture)


@functools.cache
def trace_of(name):
    model = make(name, "eager")
    with torch.no_grad(), sightline.trace(model) as trace:
        model(**FAMILIES[name].inputs())
    return trace


def sections_of(trace):
    """Dense weights by section, of batch entry 1."""
    found = {}
    for section in traced.reading_of(trace, batch=1).sections:
        found[section.name] = [matrix.dense() for matrix in section.layers]
    assert sum(map(len, found.values())) == len(trace)
    for weights, call in zip((w for layers in found.values() for w in layers), ordered(trace), strict=True):
        torch.testing.assert_close(weights[0], call.matrix.dense()[1])
    return found


def ordered(trace):
    """The calls stack by stack, in the order in which stacks began."""
    stacks: dict[tuple[str, ...], list] = {}
    for call in trace:
        stacks.setdefault((call.kind, call.name.split(".")[0] + str(call.shape)), []).append(call)
    return [call for stack in stacks.values() for call in stack]


@needs_node
@pytest.mark.parametrize(
    "name",
    # Padding, sinks with windows and grouped keys, position bias with cross-attention; then all the others.
    ["bert", "gpt_oss", "t5"]
    + [pytest.param(n, marks=pytest.mark.slow) for n in ("llama", "mistral", "gemma2", "vit", "whisper")],
)
def test_weights_in_the_page_of_a_trace(tmp_path, weights_in_page, name):  # noqa: F811
    trace = trace_of(name)
    trace.report(tmp_path / "x.html", batch=1)
    found = weights_in_page((tmp_path / "x.html").read_text(encoding="utf-8"))
    for section, dense in sections_of(trace).items():
        check_weights(found[section], dense)


@needs_node
@pytest.mark.parametrize("bias", ["alibi", "dense"])
def test_biases_written_by_hand(tmp_path, weights_in_page, bias):  # noqa: F811
    query, key, value = torch.randn(3, 1, 2, 7, 8)
    apart = (torch.arange(7)[:, None] - torch.arange(7)).abs()
    added = {"alibi": -torch.tensor([0.5, 0.1])[:, None, None] * apart, "dense": torch.randn(2, 7, 7)}[bias]
    with sightline.trace(None) as trace:
        functional.scaled_dot_product_attention(query, key, value, attn_mask=added[None])
    trace.report(tmp_path / "x.html")
    found = weights_in_page((tmp_path / "x.html").read_text(encoding="utf-8"))
    dense = (query @ key.mT / 8**0.5 + added).softmax(-1)
    check_weights(found["self"], [dense])


@needs_node
def test_generation_and_a_saved_trace(tmp_path, weights_in_page):  # noqa: F811
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.5, eos_token_id=None,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad(), sightline.trace(model) as trace:
        ids = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=5, do_sample=False)
    assert len(trace) == 2
    model.set_attn_implementation("eager")
    with torch.no_grad():
        dense = model(ids[:, :-1], output_attentions=True).attentions
    trace.tokens = [f"▁t{i}" for i in ids[0, :-1].tolist()]
    trace.save(tmp_path / "x.safetensors")
    sightline.load_trace(tmp_path / "x.safetensors").report(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    check_weights(weights_in_page(page)["self"], dense)
    assert meta_of(page)["tokens"]["0"]["texts"] == [t[1:] for t in trace.tokens]


def test_tokens_go_to_the_side_that_they_belong_to(tmp_path):
    trace = trace_of("t5")
    source, target = ([f"{side}{i}" for i in range(n)] for side, n in (("s", 9), ("t", 7)))
    reading = traced.reading_of(trace, tokens=(source, target))
    names = [([t.text for t in s.queries], [t.text for t in s.keys]) for s in reading.sections]
    assert names == [(source, source), (target, target), (target, source)]
    assert [(s.name, s.is_self, s.is_causal) for s in reading.sections] == [
        ("encoder", True, False), ("decoder", True, True), ("cross", False, False),
    ]  # fmt: skip
    trace.report(tmp_path / "x.html", title="<b>one</b>", layers=[0, 2])
    meta = meta_of((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert meta["about"]["texts"] == ["<b>one</b>"]
    assert [layer["name"] for s in meta["about"]["sections"] for layer in s["layers"]] == [
        trace[0].name, trace[2].name,
    ]  # fmt: skip


def labels(reading):
    """By section, what queries and keys begin with."""
    return {s.name: (s.queries[0].text, s.keys[0].text) for s in reading.sections}


def test_one_list_that_fits_both_sides_is_that_of_the_source():
    model, inputs = make("t5", "eager"), FAMILIES["t5"].inputs()
    with torch.no_grad(), sightline.trace(model) as equal:
        model(**inputs | {"decoder_input_ids": inputs["input_ids"]})
    one = [f"s{i}" for i in range(9)]
    expected = {"encoder": ("s0", "s0"), "decoder": ("0", "0"), "cross": ("0", "s0")}
    assert labels(traced.reading_of(equal, tokens=one)) == expected
    both = labels(traced.reading_of(equal, tokens=[one, [f"t{i}" for i in range(9)]]))
    assert both == {"encoder": ("s0", "s0"), "decoder": ("t0", "t0"), "cross": ("t0", "s0")}
    target = labels(traced.reading_of(trace_of("t5"), tokens=[f"t{i}" for i in range(7)]))
    assert target == {"encoder": ("0", "0"), "decoder": ("t0", "t0"), "cross": ("t0", "0")}


def test_layers_by_place_name_glob_and_function():
    trace = trace_of("t5")

    def shown(layers):
        calls, _ = traced.shown(trace, layers, False)
        return [call.index for call in calls]

    assert shown([0, -1]) == shown([-1, 0, 0]) == [0, 5]
    assert shown(3) == [3]
    assert shown("encoder") == [0, 1]
    assert shown("decoder.*.EncDecAttention") == [3, 5]
    assert shown(["decoder.block.1", 0]) == [0, 4, 5]
    assert shown(lambda name: name.startswith("encoder.block.1")) == [1]


def test_a_page_without_a_text_does_not_repeat_the_model(tmp_path):
    trace_of("bert").report(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<title>BertModel · Sightline</title>" in page
    about = meta_of(page)["about"]
    assert about["texts"] == [] and about["sections"][0]["queries"] == {"id": "0", "count": 9, "places": True}
    trace_of("bert").report(tmp_path / "x.html", tokens=list("abcdefghi"))
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    about = meta_of(page)["about"]
    assert about["texts"] == ["a b c d e f g h i"] and about["title"] == "a b c d e f g h i"
    assert about["sections"][0]["queries"]["places"] is False


@pytest.mark.parametrize(
    "pieces, words, special",
    [
        (["[CLS]", "un", "##believ", "##able", "[SEP]"], [0, 1, 1, 1, 2], [True, False, False, False, True]),
        (["<s>", "▁The", "▁ca", "t", "</s>"], [0, 1, 2, 2, 3], [True, False, False, False, True]),
        (["The", "Ġca", "t", "<|endoftext|>"], [0, 1, 1, 2], [False, False, False, True]),
        (["a", "<", ">"], [0, 1, 2], [False, False, False]),
    ],
)
def test_tokens_of_strings(pieces, words, special):
    tokens = tokens_of_strings(pieces)
    assert [token.word for token in tokens] == words
    assert [token.special for token in tokens] == special
    assert all(token.text for token in tokens)


def test_a_line_end_is_seen():
    """As a character, or as byte-level vocabularies write it."""
    assert [token.text for token in tokens_of_strings(["a", "\n", "b"])] == ["a", "⏎", "b"]
    assert [token.text for token in tokens_of_strings(["a", "Ċ", "Ġb"])] == ["a", "⏎", "b"]


def test_tokens_are_found_across_pieces_and_accents():
    tokens = tokens_of_strings(["▁Nat", "ásh", "a", "▁and", "▁NATASHA", "▁Bagratión"])
    assert places_of(tokens, "natasha") == [0, 4]
    assert places_of(tokens, "ASH") == [1, 4]
    assert places_of(tokens, "bagration") == [5] and places_of(tokens, "zebra") == []


def test_errors(tmp_path, monkeypatch):
    trace, path = trace_of("bert"), tmp_path / "x.html"
    for options, message in (
        ({"batch": 2}, r"report: batch=2: the trace has 2 batch entries"),
        ({"tokens": ["a"]}, r"report: tokens: there are 1, but the calls have encoder 9 × 9"),
        ({"tokens": [1, 2]}, r"report: tokens: a list of strings, .* got 1"),
        ({"layers": [0, 2]}, r"report: layers: there is no call 2; the trace has 2 calls"),
        ({"layers": "decoder"}, r"report: layers: no attention ran in 'decoder'\. .* 'encoder\.layer\.0"),
        ({"layers": []}, r"layers: an empty list"),
        ({"layers": lambda name: False}, r"report: layers: the function takes none of the 2 calls"),
    ):
        with pytest.raises(ValueError, match=message):
            trace.report(path, **options)
    with pytest.raises(TypeError, match=r"layers: takes names.*True"):
        trace.report(path, layers=[True])
    with pytest.raises(ValueError, match="the folder .* does not exist"):
        trace.report(tmp_path / "no" / "x.html")
    monkeypatch.setattr(page_size, "PAGE_LIMIT", 10)
    with pytest.raises(ValueError, match=r"2 calls of up to 9 keys .* limit .* choose some with layers="):
        trace.report(path)
    assert not path.exists()


def test_unverified_calls_are_left_out_and_named(tmp_path):
    layer = torch.nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True).train()
    x = torch.randn(1, 4, 16)
    with sightline.trace(layer) as trace:
        layer(x, x, x)
    with pytest.raises(
        ValueError, match=r"none of its 1 calls can be shown; 0: dropout is active.*unverified=True"
    ):
        trace.report(tmp_path / "x.html")
    trace.report(tmp_path / "x.html", unverified=True)
    about = meta_of((tmp_path / "x.html").read_text(encoding="utf-8"))["about"]
    assert about["notices"][0].startswith("unverified: 0: dropout is active")
    shown = about["sections"][0]["layers"][0]
    assert shown["verified"] is False and shown["reason"].startswith("dropout is active")
