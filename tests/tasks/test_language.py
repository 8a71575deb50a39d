"""Windows that a language model learns from, and how far it looks back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("tokenizers", reason="tasks need the [app] extra")

from sightline.common.errors import CommandError
from sightline.models import Decoder, DecoderConfig
from sightline.tasks.language import Language, LanguageRecipe
from sightline.tasks.language.windows import Window, drawn_windows, repeated
from sightline.tasks.task import LookOptions


def test_windows_are_stretches_of_the_text():
    stream = torch.arange(1000)
    windows = drawn_windows(stream, 64, 16, 0, 0.0, torch.Generator().manual_seed(0))
    assert {window.parts for window in windows} == {1, 2, 4}
    assert 13 <= len(windows) <= 15
    for window in windows:
        ids, wanted = window.read()
        assert ids.shape == wanted.shape == (window.parts, 64 // window.parts)
        assert torch.equal(wanted, ids + 1)
        assert torch.equal(ids.flatten(), torch.arange(64) + ids[0, 0])


def test_short_windows_fill_small_examples():
    """Each length reads as many tokens in all; one after the other the windows are the text."""
    windows = drawn_windows(torch.arange(5000), 64, 8, 16, 0.0, torch.Generator().manual_seed(0))
    sizes = {(window.length, window.parts) for window in windows}
    assert sizes == {(64, 1), (32, 1), (16, 1), (8, 2)}
    assert torch.equal(torch.cat([each.ids[:-1] for each in windows]).diff().unique(), torch.tensor([1]))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_passages_come_again(parts):
    """The text goes on after each, and what comes again stood in the same part before."""
    again = repeated(Window(torch.arange(1025), parts), torch.Generator().manual_seed(1))
    assert again.ids.shape == (1025,)
    length = 1024 // parts
    newest, copied = -1, 0
    for at, token in enumerate(again.ids.tolist()):
        if token == newest + 1:  # the text goes on
            newest = token
            continue
        copied += 1
        before = again.ids[at // length * length : at].tolist()
        assert token in before or at == 1024
    assert 0.2 < copied / 1024 < 0.7


def test_short_windows_stay_as_they_are():
    window = Window(torch.arange(33), 1)
    assert torch.equal(repeated(window, torch.Generator()).ids, window.ids)


def test_the_loss_is_the_mean_over_all_tokens():
    torch.manual_seed(0)
    model = Decoder(DecoderConfig(width=16, heads=2, layers=1, vocabulary=50, positions="rotary")).eval()
    ids = torch.randint(50, (2, 33))
    loss = Language().loss(model, [Window(ids[0], 1), Window(ids[1], 4)], LanguageRecipe())
    whole = F.cross_entropy(model(ids[:1, :-1])[0], ids[0, 1:], reduction="sum")
    quarters = F.cross_entropy(model(ids[1, :-1].view(4, 8)).flatten(0, 1), ids[1, 1:], reduction="sum")
    torch.testing.assert_close(loss, (whole + quarters) / 64)


@pytest.mark.parametrize(("window", "every", "expected"), [(0, 0, 8), (3, 0, 3), (-1, 0, None), (3, 2, 3)])
def test_how_far_a_token_sees(window, every, expected, tmp_path):
    task = Language()
    recipe = LanguageRecipe(width=16, heads=2, layers=2, context=8, window=window, global_every=every)
    task.tokenizer = _letters()
    model = task.build(recipe).eval()
    assert model.config.window == expected
    seen = task.look(model, "abcdefghij", recipe, LookOptions())
    assert len(seen.tokens[0]) == (
        8 if window < 0 or every else 10
    )  # of places beyond its context it knows nothing
    assert len(seen.notices) == (window < 0 or every > 0)
    written = task.answers(model, ["abcdefghij"], recipe, {"new_tokens": 4, "temperature": 0.0})
    assert written[0]["generated_text"].startswith("abcdefghij")


def _letters():
    from sightline.tasks.tokenizing import train_characters

    return train_characters("abcdefghij")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shortest": 512}, "shortest: the context of 256, or its half, its quarter and so on; got 512"),
        ({"shortest": 96}, "shortest: the context of 256"),
        ({"window": -1, "global_every": 2}, "global_every: 2, but window=-1 lets every block see all"),
        ({"rotary_share": 1.5}, "rotary_share: from 0 to 1, got 1.5"),
        ({"fill": 100}, "fill: the context of 256"),
        ({"window": -2}, "window: at least -1, got -2"),
        ({"repeats": 1.0}, "repeats: from 0 to below 1, got 1.0"),
    ],
)
def test_settings_that_make_no_sense(settings, told):
    with pytest.raises(CommandError, match=told):
        LanguageRecipe(context=256, **settings)
