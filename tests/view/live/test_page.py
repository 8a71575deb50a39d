"""``sightline page`` and ``look --live``: pages that carry a model, and what is refused."""

from __future__ import annotations

import json
import re

import pytest

from sightline.view.live import packing

from .tiny import saved

TEXT = "the cat sat on the mat ."


def element(page: str, name: str) -> str:
    found = re.search(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found, name
    return found[1]


def test_a_page_carries_model_and_tokenizer(sightline_command, tmp_path):
    folder, path = saved(tmp_path, "encoder-decoder"), tmp_path / "page.html"
    ran = sightline_command("page", folder, TEXT, "-o", path)
    assert ran.code == 0, ran.err
    assert re.search(r"wrote .*page\.html \(\d+\.\d MB\)", ran.err)
    page = path.read_text(encoding="utf-8")
    described = json.loads(element(page, "sightline-live"))
    assert (described["model"], described["config"]["layers"]) == ("EncoderDecoder", 2)
    assert described["task"]["writing"] == {
        "newTokens": 16,
        "beams": 4,
        "lengthPenalty": 1.0,
        "noRepeat": None,
    }
    assert json.loads(element(page, "sightline-tokenizer")) == json.loads(
        (folder / "tokenizer.json").read_text()
    )
    for block in described["weights"]["blocks"]:
        assert element(page, block["id"])
    assert "LiveSession" in element(page, "sightline-live-worker")
    assert json.loads(element(page, "sightline-data"))["about"]["texts"][0] == TEXT
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\ssrc=", page)


def test_the_boxed_translation_fits_a_page(sightline_command, tmp_path):
    path = tmp_path / "page.html"
    ran = sightline_command("page", "translation", "-o", path)
    assert ran.code == 0, ran.err
    assert path.stat().st_size <= 16e6
    meta = json.loads(element(path.read_text(encoding="utf-8"), "sightline-data"))
    assert meta["about"]["texts"][0] == "The cat sat on the mat."  # its example


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_other_models_open_with_what_comes_out(sightline_command, tmp_path, kind):
    path = tmp_path / "page.html"
    ran = sightline_command("page", saved(tmp_path, kind), TEXT, "-o", path)
    assert ran.code == 0, ran.err
    output = json.loads(element(path.read_text(encoding="utf-8"), "sightline-data"))["about"]["output"]
    assert output["kind"] == {"decoder": "next", "encoder": "label"}[kind]
    assert len(output["choices"]) == {"decoder": 5, "encoder": 3}[kind]


def test_look_makes_its_page_live_when_asked(sightline_command, tmp_path):
    folder, still, live = saved(tmp_path, "decoder"), tmp_path / "still.html", tmp_path / "live.html"
    for path, options in ((still, []), (live, ["--live"])):
        asked = ["look", TEXT, "--model", "sentiment"] if path is still else ["look", TEXT, "--model", folder]
        ran = sightline_command(*asked, "--html", path, *options)
        assert ran.code == 0, ran.err
    assert 'id="sightline-live"' not in still.read_text(encoding="utf-8")
    assert element(live.read_text(encoding="utf-8"), "sightline-live")
    ran = sightline_command("look", TEXT, "--live")
    assert ran.code == 1 and "--live is for a page: name one with --html" in ran.err


def test_what_cannot_run_says_what_to_do(sightline_command, tmp_path, monkeypatch):
    path = tmp_path / "page.html"

    def refused(*arguments: object) -> str:
        ran = sightline_command("page", *arguments, "-o", path)
        assert ran.code == 1 and not path.exists(), ran
        return ran.err

    assert "there is no folder 'nothing', and no task of that name; models of generation," in refused(
        "nothing"
    )
    assert "a model of image-classification reads no texts" in refused("image-classification")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"model_type": "gpt2"}')
    assert "holds no model of Sightline, which a page can run" in refused(theirs)
    assert "the folder" in sightline_command("page", "translation", "-o", tmp_path / "no" / "page.html").err
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    assert "is empty" in refused("sentiment", empty)
    monkeypatch.setattr(packing, "_BYTES", {"f2": 20_000, "b2": 2, "f4": 4})
    assert "and a page carries at most 40 MB" in refused(saved(tmp_path, "decoder"))


def test_a_model_without_a_first_token_is_refused(sightline_command, tmp_path):
    folder = saved(tmp_path, "encoder-decoder", start=None)
    ran = sightline_command("page", folder, "-o", tmp_path / "page.html")
    assert ran.code == 1 and "names no token" in ran.err


def test_half_a_model_is_refused(sightline_command, tmp_path):
    folder = saved(tmp_path, "decoder")
    (folder / "tokenizer.json").unlink()
    ran = sightline_command("page", folder, "-o", tmp_path / "page.html")
    assert ran.code == 1 and "no tokenizer was saved with this model" in ran.err
    (folder / "model.safetensors").unlink()
    ran = sightline_command("page", folder, "-o", tmp_path / "page.html")
    assert ran.code == 1 and "model.safetensors is missing" in ran.err


def test_the_old_page_stays_where_the_new_one_fails(sightline_command, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("what was there")
    assert sightline_command("page", "image-classification", "-o", path).code == 1
    assert path.read_text() == "what was there"
