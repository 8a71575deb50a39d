"""The numbers that look shows equal those of transformers' own eager attention."""

from __future__ import annotations

import pytest
import torch

from .conftest import VOCABULARY

TEXT = "The cat sat on the mat, unbelievable!"
IDS = ["the", "cat", "sat", "on", "the", "mat", ",", "un", "##believ", "##able", "!"]


def ids(*tokens: str) -> list[int]:
    return [VOCABULARY[token] for token in tokens]


def check_layers(found, dense, is_self=True):
    """Entropy, distance, received and top-k of a JSON file against dense weights, a tuple of [1,H,N,M]."""
    assert len(found["layers"]) == len(dense)
    for layer, weights in zip(found["layers"], dense, strict=True):
        weights = weights[0].double()
        entropy = -torch.xlogy(weights, weights).sum(-1)
        apart = (torch.arange(weights.shape[1])[:, None] - torch.arange(weights.shape[2])).abs()
        for head in layer["heads"]:
            w = weights[head["head"]]
            close(head["entropy"], entropy[head["head"]])
            close(head["entropy_mean"], entropy[head["head"]].mean())
            close(head["received"], w.sum(0))
            if is_self:
                close(head["distance"], (w * apart).sum(-1))
                close(head["distance_mean"], (w * apart).sum(-1).mean())
            else:
                assert head["distance"] is None and head["distance_mean"] is None
            keys = torch.tensor(head["topk"]["keys"])
            values = torch.tensor(head["topk"]["weights"]).double()
            close(values, torch.where(keys >= 0, w.gather(1, keys.clamp_min(0)), 0.0))
            close(values, w.topk(values.shape[1]).values)


def close(found, expected):
    torch.testing.assert_close(
        torch.as_tensor(found).double(), torch.as_tensor(expected).double(), atol=2e-5, rtol=2e-5
    )


def test_encoder(look_json, eager):
    found = look_json(TEXT, "--layer", 1, "--head", 2, "--query", "cat", "--top", 4)
    dense = eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions
    check_layers(found, dense)
    assert found["section"] == "encoder" and found["sections"] == ["encoder"]
    assert found["shape"] == {"layers": 3, "heads": 4, "queries": 13, "keys": 13}
    assert found["choice"]["layer"] == 1 and found["choice"]["head"] == 2 and found["choice"]["query"] == 2
    close(found["choice"]["weights"], dense[1][0, 2, 2])
    close(found["choice"]["special_share"], dense[1][0, 2, 1:-1][:, [0, -1]].sum(-1).mean())


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_decoder(look_json, eager, model):
    found = look_json(TEXT, model=model)
    check_layers(found, eager(model, input_ids=ids(*IDS)).attentions)
    assert found["section"] == "decoder"
    first = found["layers"][0]["heads"][0]["topk"]
    assert first["keys"][0] == [0] + [-1] * 7
    assert first["weights"][0] == [1] + [0] * 7


@pytest.mark.parametrize("section", ["encoder", "decoder", "cross"])
def test_encoder_decoder(look_json, eager, section):
    found = look_json("The cat sat", "a dog saw", "--section", section, "--top", 3, model="t5")
    outputs = eager(
        "t5", input_ids=ids("the", "cat", "sat", "[SEP]"), decoder_input_ids=ids("[PAD]", "a", "dog", "saw")
    )
    check_layers(found, getattr(outputs, f"{section}_attentions"), is_self=section != "cross")
    assert found["sections"] == ["encoder", "decoder", "cross"]
    texts = [token["text"] for token in found["queries"]]
    assert texts == (["The", "cat", "sat", "[SEP]"] if section == "encoder" else ["[PAD]", "a", "dog", "saw"])


def test_encoder_decoder_without_a_target_writes_one(look_json):
    found = look_json("The cat sat", model="t5")
    assert found["section"] == "cross"
    assert found["texts"][0] == "The cat sat" and len(found["texts"]) == 2
    assert any("the model wrote one itself" in notice for notice in found["notices"])


def test_pair_is_one_sequence(look_json):
    found = look_json("the cat", "a dog")
    assert [token["text"] for token in found["queries"]] == [
        "[CLS]",
        "the",
        "cat",
        "[SEP]",
        "a",
        "dog",
        "[SEP]",
    ]
    assert [token["special"] for token in found["queries"]] == [True, False, False, True, False, False, True]


def test_pairs_are_the_largest_ordinary_weights(look_json, eager):
    found = look_json(TEXT, "--top", 5)
    dense = torch.cat(eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions)[:, :, 1:-1, 1:-1]
    close([pair["weight"] for pair in found["pairs"]], dense.flatten().topk(5).values)
    for pair in found["pairs"]:
        close(pair["weight"], dense[pair["layer"], pair["head"], pair["query"] - 1, pair["key"] - 1])


def test_special_pairs_on_request(look_json, eager):
    found = look_json(TEXT, "--top", 5, "--special", "--layer", 2, "--head", 0)
    dense = eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions[2][0, 0]
    close([pair["weight"] for pair in found["pairs"]], dense.flatten().topk(5).values)
    assert {(pair["layer"], pair["head"]) for pair in found["pairs"]} == {(2, 0)}


def test_json_grows_linearly(look, tmp_path):
    sizes = []
    for words in (10, 40):
        path = tmp_path / f"{words}.json"
        assert look(" ".join(["cat"] * words), "--json", path).code == 0
        sizes.append(path.stat().st_size)
    assert sizes[1] < 5 * sizes[0]
