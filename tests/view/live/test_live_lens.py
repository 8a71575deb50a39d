"""What the page's runtime says in words is what ``trace.lens`` says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
)
from sightline.reading.traced import reading_of
from sightline.view.lens import lens_about, lens_at
from tests.view.live.asking import question

SIZE = {"width": 24, "heads": 4, "vocabulary": 41, "hidden": 40, "layers": 2}
SOURCE = [7, 3, 40, 3, 12, 0, 25, 31, 3]
TARGET = [1, 30, 3, 3, 17, 22]
KINDS = {DecoderConfig: Decoder, EncoderConfig: Encoder, EncoderDecoderConfig: EncoderDecoder}

CONFIGS: dict[str, Any] = {
    "decoder": DecoderConfig(**SIZE),
    "post-norm": DecoderConfig(**SIZE, norm_first=False, embedding_norm=True),
    "rms, grouped, rotary": DecoderConfig(
        **SIZE, norm="rms", positions="rotary", kv_heads=2, bias=False, activation="swiglu"
    ),
    "untied, with a bias": DecoderConfig(
        **SIZE, tied=False, head_bias=True, positions="sinusoidal", embedding_scale=True
    ),
    "pair": EncoderDecoderConfig(**SIZE, decoder_layers=1, start=1),
    "pair, post-norm, copying": EncoderDecoderConfig(**SIZE, norm_first=False, copying=True),
    "classes by the mean": EncoderConfig(**SIZE, head="classification", classes=3),
    "classes by the first": EncoderConfig(
        **SIZE, head="classification", classes=3, pooling="first", norm_first=False
    ),
    "classes of tokens": EncoderConfig(**SIZE, head="token-classification", classes=3),
    "masked": EncoderConfig(**SIZE, head="masked-token", segments=2),
}


def made(config: Any) -> Any:
    torch.manual_seed(3)
    model = KINDS[type(config)](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.25 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Any]:
    """Of each model its reading in Python, and what the runtime says."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    readings, questions = {}, []
    for name, config in CONFIGS.items():
        model = made(config)
        given = {"source": SOURCE, "target": TARGET} if isinstance(model, EncoderDecoder) else {}
        given = given or {"target" if isinstance(model, Decoder) else "source": SOURCE}
        with torch.no_grad(), sightline.trace(model, residual=True) as trace:
            model(*(torch.tensor([ids]) for ids in given.values()))
        readings[name] = reading_of(trace)
        questions.append(question(model, given))
    questions.append(question(made(EncoderConfig(**SIZE)), {"source": SOURCE}))
    folder = tmp_path_factory.mktemp("lens")
    (folder / "given.json").write_text(json.dumps(questions), encoding="utf-8")
    harness = Path(__file__).parent / "lens.mjs"
    command = ["node", str(harness), str(folder / "given.json"), str(folder / "got.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr
    answers = [each[0] for each in json.loads((folder / "got.json").read_text(encoding="utf-8"))]
    assert answers.pop() is None  # a model that writes no words
    return {name: (readings[name].lens, answer) for name, answer in zip(CONFIGS, answers, strict=True)}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_knows_the_same_stages_parts_and_heads(found: dict[str, Any], name: str) -> None:
    lens, answer = found[name]
    assert answer["about"] == json.loads(json.dumps(lens_about(lens)))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_says_the_same_words(found: dict[str, Any], name: str) -> None:
    lens, answer = found[name]
    for position, said in enumerate(answer["said"]):
        wanted = lens_at(lens, position)
        assert said["word"]["text"] == wanted["word"]["text"]
        assert said["word"]["logit"] == pytest.approx(wanted["word"]["logit"], abs=1e-3)
        for here, there in zip(said["stages"], wanted["stages"], strict=True):
            assert here["rank"] == there["rank"]
            assert here["probability"] == pytest.approx(there["probability"], abs=1e-3)
            shares = [each["probability"] for each in here["words"]]
            assert shares == pytest.approx([each["probability"] for each in there["words"]], abs=1e-3)
            assert [each["text"] for each in here["words"]] == [each["text"] for each in there["words"]]
        if wanted["parts"] is None:
            assert said["parts"] is None
        else:
            assert said["parts"] == pytest.approx(wanted["parts"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.browser
def test_a_typed_sentence_is_read_as_words(tabs, tmp_path):
    from sightline.cli import main
    from sightline.commands.opening import open_model

    assert main(["page", "translation", "-o", str(tmp_path / "page.html")]) == 0
    tab = tabs.open((tmp_path / "page.html").as_uri() + "#s=cross&l=0&h=0&q=1")
    tab.fill("#ask-text", "How are you today?")
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => location.hash.includes('t=live-')")
    tab.locator("#text [data-at='1']").first.click()
    tab.wait_for_selector("#lens tbody tr")
    lens = open_model("translation").read("How are you today?").lens
    wanted = lens_at(lens, 1)
    assert f"“{wanted['word']['text']}”" in tab.inner_text("#lens .lens-about")
    logit = re.search(r": (−?[\d.]+) =", tab.inner_text("#lens .lens-sum"))[1]
    assert float(logit.replace("−", "-")) == pytest.approx(wanted["word"]["logit"], abs=2e-3)
    labels = tab.locator("#lens .lens-bar").evaluate_all(
        "(bars) => bars.map((bar) => bar.getAttribute('aria-label'))"
    )
    told = {
        label.split(":")[0]: float(re.search(r": ([+−][\d.e−]+) to", label)[1].replace("−", "-"))
        for label in labels
    }
    parts = dict(zip((part["name"] for part in lens_about(lens)["parts"]), wanted["parts"], strict=True))
    assert told == pytest.approx({name: parts[name] for name in told}, abs=2e-3)
