"""What positions say in words: pages and the server have the numbers of ``trace.lens``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

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
from sightline.reading.lens import names_of_vocabulary
from sightline.reading.traced import reading_of
from sightline.view import lens as view_lens
from sightline.view import modules

from .browser import FAINT, shoot

TEXT = {"width": 32, "heads": 4, "layers": 2, "vocabulary": 50}
NARROW = {"width": 390, "height": 844}

HARNESS = """
import { readFileSync } from "node:fs";
import { createAnswerer } from "./compute/answerer.js";
import { CarriedSource } from "./source/carried.js";

const page = readFileSync(process.argv[2], "utf8");
const block = (id) => page.match(new RegExp(`id="${id}">([^<]*)</script>`))[1];
const source = new CarriedSource(JSON.parse(block("sightline-data")), block, createAnswerer);
const { lens } = await source.about();
const said = await Promise.all(Array.from({ length: lens.count }, (_, at) => source.lens("page", at)));
console.log(JSON.stringify({ lens, said }));
"""


def lively(model):
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * 0.3 + float("norm" in name and name.endswith("weight"))
            )
    return model.eval()


def traced(model, *given):
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model(*given)
    return trace


def ids(length, batch=1):
    return torch.randint(3, 50, (batch, length), generator=torch.Generator().manual_seed(length))


@pytest.fixture
def pair():
    model = lively(EncoderDecoder(EncoderDecoderConfig(**TEXT, start=1, end=2)))
    return traced(model, ids(7), ids(5))


@pytest.fixture
def said_in_page(tmp_path):
    """What a page says of every position, read by the page's own modules in node."""

    def run(trace):
        if shutil.which("node") is None:
            pytest.skip("node is not installed")
        web = tmp_path / "web"
        shutil.copytree(Path(modules.__file__).parent / "web", web)
        (web / "package.json").write_text('{"type": "module"}')
        (web / "harness.js").write_text(HARNESS)
        trace.report(web / "page.html")
        command = ["node", "harness.js", "page.html"]
        done = subprocess.run(command, cwd=web, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def meta_of(page):
    return json.loads(re.search(r'id="sightline-data">(.*?)</script>', page, re.DOTALL)[1])


def check_said(said, trace, position, batch=0):
    """What is said of a position against the lens of the trace."""
    lens = trace.lens(position, k=5, batch=batch)
    followed = lens.follow(int(lens.tokens[-1, 0]))
    assert said["position"] == position and said["word"]["text"] == f"#{int(lens.tokens[-1, 0])}"
    assert said["word"]["logit"] == pytest.approx(float(lens.logits[-1, 0]), abs=1e-3)
    for at, stage in enumerate(said["stages"]):
        assert [word["text"] for word in stage["words"]] == [f"#{i}" for i in lens.tokens[at].tolist()]
        shares = [word["probability"] for word in stage["words"]]
        assert shares == pytest.approx(lens.probabilities[at].tolist(), abs=1e-3)
        assert stage["rank"] == int(followed.ranks[at])
        assert stage["probability"] == pytest.approx(float(followed.probabilities[at]), abs=1e-3)
    wanted = lens.contributions()
    assert said["parts"] == pytest.approx(wanted.values.tolist(), abs=1e-3)
    assert sum(said["parts"]) == pytest.approx(said["word"]["logit"], abs=1e-3)


def test_a_page_says_what_the_lens_says(pair, said_in_page):
    found = said_in_page(pair)
    about = found["lens"]
    assert about["sections"] == ["decoder", "cross"] and about["count"] == len(found["said"]) == 5
    assert [stage["name"] for stage in about["stages"]] == list(pair.lens(0).stages)
    assert [part["name"] for part in about["parts"]] == list(pair.lens(0).contributions().parts)
    assert about["heads"] == {
        "head": {"section": "decoder", "layers": [0, 1]},
        "cross head": {"section": "cross", "layers": [0, 1]},
    }
    for position, said in enumerate(found["said"]):
        check_said(said, pair, position)


def test_the_batch_entry_of_the_page_is_read(tmp_path):
    trace = traced(lively(Decoder(DecoderConfig(**TEXT))), ids(6, batch=2))
    reading = reading_of(trace, batch=1)
    for position in (0, 5):
        check_said(view_lens.lens_at(reading.lens, position), trace, position, batch=1)
    assert reading_of(traced(lively(Decoder(DecoderConfig(**TEXT))), ids(6))).lens.batch == 0


def test_layers_that_are_not_shown_have_no_heads_to_choose(pair, tmp_path):
    pair.report(tmp_path / "page.html", layers=["decoder.blocks.1"])
    about = meta_of((tmp_path / "page.html").read_text(encoding="utf-8"))["about"]["lens"]
    assert about["heads"]["head"] == {"section": "decoder", "layers": [None, 0]}
    assert about["heads"]["cross head"]["layers"] == [None, 0]


def test_pages_without_a_recording_or_words_have_none(tmp_path):
    model = lively(Decoder(DecoderConfig(**TEXT)))
    with torch.no_grad(), sightline.trace(model) as plain:
        model(ids(6))
    classes = traced(lively(Encoder(EncoderConfig(**TEXT))), ids(6))
    for trace in (plain, classes):
        trace.report(tmp_path / "page.html")
        meta = meta_of((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert meta["lens"] is None and meta["about"]["lens"] is None


def test_a_masked_token_model_has_words_and_no_parts(said_in_page):
    trace = traced(lively(Encoder(EncoderConfig(**TEXT, head="masked-token"))), ids(6))
    found = said_in_page(trace)
    assert found["lens"]["parts"] is None and "not linear" in found["lens"]["notes"][0]
    assert found["lens"]["sections"] == ["encoder"]
    for position, said in enumerate(found["said"]):
        assert said["parts"] is None
        lens = trace.lens(position, k=5)
        assert [word["text"] for word in said["stages"][-1]["words"]] == [
            f"#{i}" for i in lens.tokens[-1].tolist()
        ]


@pytest.mark.parametrize("limit", ["POSITIONS", "WORK"])
def test_long_texts_are_left_to_the_server(pair, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(view_lens, limit, 4)
    pair.report(tmp_path / "page.html")
    meta = meta_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert meta["lens"] is None and meta["about"]["lens"] is None
    assert any("5 positions are many for it; sightline serve" in each for each in meta["about"]["notices"])


def test_a_model_that_changed_since_leaves_the_page_whole(tmp_path):
    model = lively(Decoder(DecoderConfig(**TEXT)))
    trace = traced(model, ids(6))
    with torch.no_grad():
        model.decoder.blocks[0].self_attention.output.weight.mul_(2)
    trace.report(tmp_path / "page.html")
    meta = meta_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert meta["lens"] is None
    assert any("is not the stream that the model ended in" in each for each in meta["about"]["notices"])


def test_names_of_tokens_are_those_of_views():
    names = names_of_vocabulary({"<s>": 0, "Ġcat": 1, "s": 2, "Ċ": 3, "Ġ": 4, "ÃŁ": 5})
    assert names([1, 2, 0, 3, 4, 5, 9]) == ["cat", "s", "<s>", "⏎", "␣", "ß", "#9"]
    assert names_of_vocabulary({"▁Katze": 0, "##ze": 1})([0, 1]) == ["Katze", "##ze"]


# --- in the terminal ----------------------------------------------------------------------------------


def test_the_terminal_shows_words_and_parts(sightline_command, tmp_path):
    path = tmp_path / "lens.json"
    ran = sightline_command(
        "lens", "The cat sat on the mat.", "Die Katze sitzt.", "--at", "Die", "--json", path, "--top", 3
    )
    assert ran.code == 0, ran.err
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["token"], found["position"], found["word"]["text"]) == ("Die", 1, "Katze")
    assert sum(found["contributions"].values()) == pytest.approx(found["word"]["logit"], abs=1e-3)
    last = found["stages"][-1]
    assert last["rank"] == 1 and last["words"][0]["text"] == "Katze"
    assert re.search(
        rf"^{last['name']} +Katze {last['words'][0]['probability']:.3f} .* 1  {last['probability']:.4f}$",
        ran.out,
        re.M,
    )
    assert "layer 0 attention" not in ran.out
    largest = max(found["contributions"], key=lambda name: abs(found["contributions"][name]))
    assert f"{found['contributions'][largest]:+9.3f}  {largest}\n" in ran.out
    shown = [float(number) for number in re.findall(r"^ +([+-][\d.]+)  ", ran.out, re.M)]
    assert len(shown) == 4 and sum(shown) == pytest.approx(found["word"]["logit"], abs=5e-3)
    assert "layer 0 attention" in sightline_command("lens", "The cat.", "--halves").out


def test_the_terminal_reads_models_of_transformers(sightline_command, model_folder, tmp_path):
    import transformers

    folder, path = model_folder("gpt2"), tmp_path / "lens.json"
    ran = sightline_command("lens", "the cat sat", "--model", folder, "--json", path)
    assert ran.code == 0, ran.err
    found = json.loads(path.read_text(encoding="utf-8"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        wanted = model(torch.tensor([tokenizer("the cat sat")["input_ids"]])).logits[0, -1].topk(5)
    told = [word["text"] for word in found["stages"][-1]["words"]]
    assert told == tokenizer.convert_ids_to_tokens(wanted.indices.tolist())
    assert found["word"]["logit"] == pytest.approx(float(wanted.values[0]), abs=1e-3)
    assert found["token"] == "sat" and sum(found["contributions"].values()) == pytest.approx(
        found["word"]["logit"], abs=1e-3
    )
    bert = sightline_command("lens", "the cat sat", "--model", model_folder("bert"))
    assert bert.code == 1 and "has no output matrix" in bert.err


def test_a_classifier_says_labels(sightline_command, tmp_path):
    page = tmp_path / "page.html"
    assert (
        sightline_command("look", "A warm and funny film.", "--model", "sentiment", "--html", page).code == 0
    )
    meta = meta_of(page.read_text(encoding="utf-8"))
    about = meta["about"]["lens"]
    assert about["reads"] == "labels" and "mean over all tokens" in about["notes"][0]
    assert set(meta["lens"]["names"]) == {choice["text"] for choice in meta["about"]["output"]["choices"]}
    ran = sightline_command("lens", "A warm and funny film.", "--model", "sentiment", "--at", "funny")
    assert (
        ran.code == 0
        and "label bias"
        in sightline_command("lens", "A warm and funny film.", "--model", "sentiment", "--top", 99).out
    )


def test_what_the_terminal_refuses(sightline_command):
    for arguments, message in (
        (("The cat.", "--at", "dog"), "--at 'dog': not in the text; its tokens are"),
        (("The cat.", "Die Katze.", "--at", "#99"), "--at #99 is out of range"),
        (("The cat.", "--top", 0), "--top 0: at least 1"),
        (("The cat.", "--max-tokens", 0), "--max-tokens 0: at least 1"),
        (("The cat.", "--json", "/dev/null/x.json"), "/dev/null"),
    ):
        ran = sightline_command("lens", *arguments)
        assert ran.code == 1 and message in ran.err, ran.err


# --- served -------------------------------------------------------------------------------------------


@pytest.fixture
def client():
    pytest.importorskip("starlette", reason="sightline serve needs the [app] extra")
    pytest.importorskip("httpx", reason="the tests of sightline serve need httpx")
    from starlette.testclient import TestClient

    from sightline.view.server.app import create_app
    from sightline.view.server.catalogue import open_calls
    from sightline.view.server.guard import allowed_hosts
    from sightline.view.server.service import Service

    services = []

    def serve(trace):
        service = Service([open_calls(trace, "words", "t1")])
        services.append(service)
        return TestClient(create_app(service, allowed_hosts("127.0.0.1", 8417)), "http://127.0.0.1:8417")

    yield serve
    for service in services:
        service.jobs.stop()


def test_the_server_says_what_the_lens_says(pair, client):
    with client(pair) as opened:
        assert opened.get("/api/traces/t1").json()["lens"]["count"] == 5
        for position in (0, 4):
            check_said(opened.get(f"/api/traces/t1/lens?position={position}").json(), pair, position)
        for asked in ("position=5", "position=-1", "position=x", ""):
            answer = opened.get(f"/api/traces/t1/lens?{asked}")
            assert answer.status_code == 400 and "position: must be an integer from 0 to 4" in answer.text


def test_the_server_says_why_there_are_no_words(client):
    model = lively(Decoder(DecoderConfig(**TEXT)))
    with torch.no_grad(), sightline.trace(model) as plain:
        model(ids(6))
    with client(plain) as opened:
        answer = opened.get("/api/traces/t1/lens?position=0")
        assert answer.status_code == 404 and "was not recorded" in answer.text
    trace = traced(model, ids(6))
    with client(trace) as opened, torch.no_grad():
        model.decoder.blocks[0].self_attention.output.weight.mul_(2)
        answer = opened.get("/api/traces/t1/lens?position=0")
        assert answer.status_code == 409 and "Weights were changed" in answer.text


# --- in a browser -------------------------------------------------------------------------------------


def brought(tab):
    """What the bars say: by name, the number."""
    labels = tab.locator("#lens .lens-bar").evaluate_all(
        "(bars) => bars.map((bar) => bar.getAttribute('aria-label'))"
    )
    told = [re.fullmatch(r"(.+): ([+−][\d.e−]+) to “(.+)”", label).groups() for label in labels]
    return {name: float(number.replace("−", "-")) for name, number, _ in told}


@pytest.mark.browser
def test_the_panel_shows_words_and_what_heads_brought(pair, tabs, tmp_path):
    pair.report(tmp_path / "page.html", tokens=[[f"s{i}" for i in range(7)], [f"t{i}" for i in range(5)]])
    tab = tabs.open((tmp_path / "page.html").as_uri() + "#s=decoder&l=0&h=0&q=3")
    tab.wait_for_selector("#lens tbody tr")
    lens = pair.lens(3, k=5)
    word = f"“#{int(lens.tokens[-1, 0])}”"
    assert tab.inner_text("#lens h2") == "Lens · “t3” #3"
    assert word in tab.inner_text("#lens .lens-about")
    rows = tab.locator("#lens tbody tr")
    assert [rows.nth(at).locator("th").inner_text() for at in range(rows.count())] == [
        "embedding",
        "layer 0",
        "layer 1",
    ]
    chips = rows.nth(1).locator(".lens-word").all_inner_texts()
    at = lens.stages.index("layer 0 feed-forward")
    assert [chip.split()[0] for chip in chips] == [f"#{i}" for i in lens.tokens[at].tolist()]
    shares = [float(re.sub(r"[^\d.]", "", chip.split(maxsplit=1)[1])) / 100 for chip in chips]
    assert shares == pytest.approx(lens.probabilities[at].tolist(), abs=1e-3)
    wanted = dict(zip(lens.contributions().parts, lens.contributions().values.tolist(), strict=True))
    told = brought(tab)
    assert set(wanted) - set(told) == {"norm biases"} and told == pytest.approx(
        {name: wanted[name] for name in told}, abs=1e-3
    )
    assert f"logit of {word}: {lens.logits[-1, 0]:.3f}".replace("-", "−") in tab.inner_text("#lens .lens-sum")
    tab.click("#lens button:has-text('after attention, too')")
    assert rows.count() == len(lens.stages)
    # A head that is clicked on is shown by all views.
    bar = tab.locator("#lens [data-part='layer 1 cross head 2']")
    bar.click()
    tab.wait_for_function("() => document.querySelector('#text h2').textContent.includes('layer 1 head 2')")
    assert "s=cross" in tab.url and tab.locator("#lens [aria-pressed=true].lens-bar").count() == 1
    assert tab.evaluate("document.activeElement.dataset.part") == "layer 1 cross head 2"
    assert tab.evaluate(FAINT) == []


@pytest.mark.browser
def test_the_panel_follows_the_selection_and_says_where_words_are(pair, tabs, tmp_path):
    pair.report(tmp_path / "page.html")
    tab = tabs.open((tmp_path / "page.html").as_uri() + "#s=encoder&l=1&h=0&q=3&f=lens")
    assert "encoder writes no words" in tab.inner_text("#lens .lens-about")
    tab.click("#lens .lens-about button:has-text('decoder')")
    tab.wait_for_selector("#lens tbody tr")
    before = tab.inner_text("#lens .lens-about")
    tab.keyboard.press("p")
    tab.wait_for_function(
        "(before) => document.querySelector('#lens .lens-about').textContent !== before", arg=before
    )
    assert tab.inner_text("#lens h2") == "Lens · #2"
    tab.keyboard.press("Escape")
    tab.wait_for_function(
        "() => document.querySelector('#lens .lens-about').textContent.includes('Choose a word')"
    )
    tab.set_viewport_size(NARROW)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.keyboard.press("n")
    tab.wait_for_selector("#lens tbody tr")
    assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert tab.evaluate(FAINT) == []


@pytest.mark.slow
@pytest.mark.browser
def test_the_panel_of_the_boxed_translation(tabs, sightline_command, tmp_path):
    page = tmp_path / "page.html"
    ran = sightline_command("look", "The cat sat on the mat.", "--html", page)
    assert ran.code == 0, ran.err
    tab = tabs.open(page.as_uri() + "#s=cross&l=2&h=3&q=1&f=lens")
    tab.wait_for_selector("#lens tbody tr")
    assert "Katze" in tab.inner_text("#lens .lens-about strong")
    shoot(tab, "lens", "#lens")


@pytest.mark.browser
def test_there_is_no_panel_where_there_are_no_words(tabs, tmp_path):
    model = lively(Decoder(DecoderConfig(**TEXT)))
    with torch.no_grad(), sightline.trace(model) as trace:
        model(ids(6))
    trace.report(tmp_path / "page.html")
    tab = tabs.open((tmp_path / "page.html").as_uri() + "#f=lens")
    assert tab.locator("#lens").is_hidden() and tab.locator("#map").is_visible()
    assert tab.locator("#tabs [data-view=lens]").is_hidden()
