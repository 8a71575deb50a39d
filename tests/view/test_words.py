"""Merging subwords: a sum over keys, a mean over queries, rows still sum to 1."""

from __future__ import annotations

import torch

from sightline.reading.tokens import Token
from sightline.view.words import merge, merge_tokens, word_numbers

from .test_numbers import IDS, TEXT, close, ids


def words_of(dense):
    """The definition, by loops: [H,N,M] to [H,words,words] for TEXT with [CLS] and [SEP]."""
    groups = [[0], [1], [2], [3], [4], [5], [6], [7], [8, 9, 10], [11], [12]]
    rows = torch.stack([dense[:, group].mean(1) for group in groups], 1)
    return torch.stack([rows[..., group].sum(-1) for group in groups], -1)


def test_merge_by_hand():
    weights = torch.tensor([[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]])
    merged = merge(weights, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    close(merged, [[[0.2, 0.8], [0.5, 0.5]]])


def test_words_of_tokens():
    tokens = [
        Token(0, "un", False, 3, True),
        Token(1, "##able", False, 3, False),
        Token(2, "!", False, 5, False),
    ]
    assert [(word.index, word.text) for word in merge_tokens(tokens)] == [(0, "unable"), (1, "!")]
    assert word_numbers(tokens).tolist() == [0, 0, 1]


def test_look_by_words(look_json, eager):
    found = look_json(TEXT, "--words", "--query", "unbelievable", "--layer", 1, "--head", 3, "--top", 11)
    dense = words_of(eager("bert", input_ids=ids("[CLS]", *IDS, "[SEP]")).attentions[1][0])
    assert [token["text"] for token in found["queries"]][8] == "unbelievable"
    assert found["unit"] == "word" and found["choice"]["query"] == 8
    close(sum(found["choice"]["weights"]), 1.0)
    close(found["choice"]["weights"], dense[3, 8])
    for head in found["layers"][1]["heads"]:
        w = dense[head["head"]]
        close(torch.tensor(head["topk"]["weights"]).sum(-1), torch.ones(11))
        close(head["topk"]["weights"], w.topk(11).values)
        close(head["entropy"], -torch.xlogy(w, w).sum(-1))
        close(head["received"], w.sum(0))


def test_blocks_of_words_agree(model_folder, monkeypatch):
    """However few rows are merged at a time, the readouts are the same."""
    from sightline.huggingface.load import load_model
    from sightline.reading.published import read
    from sightline.view import words

    reading = read(load_model(str(model_folder("bert"))), TEXT)
    whole = [layer.readouts(4) for layer in words.by_word(reading.sections[0]).layers]
    near = words.by_word(reading.sections[0]).layers[0].nearby()
    monkeypatch.setattr(words, "_BLOCK", 1)
    for layer, expected in zip(words.by_word(reading.sections[0]).layers, whole, strict=True):
        found = layer.readouts(4)
        for name in ("entropy", "distance", "received", "weights"):
            close(getattr(found, name), getattr(expected, name))
        for column in (0, 8):
            close(layer.column(column)[2], torch.stack([layer.row(2, u)[column] for u in range(11)]))
    close(words.by_word(reading.sections[0]).layers[0].nearby(), near)
