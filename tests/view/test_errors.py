"""Every error of look is one clear line on stderr, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from sightline.reading.source import read_source

TEXT = "the cat sat"


def check_error(ran, *words):
    assert ran.code == 1, ran
    assert ran.out == ""
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("sightline: "), ran.err
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_empty_text(look, text):
    check_error(look(text), "the text is empty: there is nothing to look at")


def test_empty_file(look, tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("\n")
    check_error(look(path), str(path), "is empty")


def test_missing_file(look, tmp_path):
    check_error(look(tmp_path / "missing.txt"), "no such file", "missing.txt")


@pytest.mark.parametrize("name", ["missing", "missing.csv", "/missing/path", "./missing", "~/missing"])
def test_what_looks_like_a_path_is_no_text(look, tmp_path, name):
    check_error(look(tmp_path / name if name[0] == "m" else name), "no such file", name)


@pytest.mark.parametrize("text", ["and/or", "10/10", "see /missing/path there", "/ and ./", "U.S."])
def test_a_text_with_a_slash_is_a_text(text):
    assert read_source(text) == text


def test_folder_for_a_text(look, tmp_path):
    check_error(look(tmp_path), "is a folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads whatever the mode says")
def test_unreadable_file(look, tmp_path):
    path = tmp_path / "closed.txt"
    path.write_text(TEXT)
    path.chmod(0)
    check_error(look(path), "cannot read", "closed.txt")


def test_not_utf8(look, tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("café".encode("latin-1"))
    check_error(look(path), "is not UTF-8 text (byte 3 is 0xe9)")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--layer", 3), "--layer 3 is out of range: 0 to 2"),
        (("--layer", -4), "--layer -4 is out of range: 0 to 2"),
        (("--head", 4), "--head 4 is out of range: 0 to 3"),
        (("--query", "#5"), "--query #5 is out of range: 0 to 4"),
        (("--query", "cats"), "not in the text; near it: cat"),
        (("--query", "zebra"), "not in the text; its tokens are [CLS](#0) the(#1) cat(#2) sat(#3) [SEP](#4)"),
        (("--section", "cross"), "--section cross: this model has encoder"),
        (("--top", 0), "--top 0: at least 1"),
        (("--max-tokens", 0), "--max-tokens 0: at least 1"),
    ],
)
def test_options(look, options, message):
    check_error(look(TEXT, *options), message)


def test_negative_places_count_from_the_end(look_json):
    choice = look_json(TEXT, "--layer", -1, "--head", -2, "--query", "#-1")["choice"]
    assert (choice["layer"], choice["head"], choice["query"]) == (2, 2, 4)


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_output_folder_missing(look, tmp_path, option):
    check_error(look(TEXT, option, tmp_path / "no" / "file"), "cannot write", "does not exist")


def test_output_is_a_folder(look, tmp_path):
    check_error(look(TEXT, "--html", tmp_path), "cannot write", "it is a folder")


def test_same_output_twice(look, tmp_path):
    check_error(look(TEXT, "--html", tmp_path / "x", "--json", tmp_path / "x"), "both name")


def test_both_texts_from_standard_input(look):
    check_error(look("-", "-"), "standard input can be one of the two texts, not both")


def model_without(folder, tmp_path, *names):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    for name in names:
        (copy / name).unlink()
    return copy


def test_model_folder_missing(sightline_command, tmp_path):
    check_error(sightline_command("look", TEXT, "--model", tmp_path / "none"), "no such folder")


def test_model_is_a_file(sightline_command, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("")
    check_error(sightline_command("look", TEXT, "--model", path), "is a file; give the folder")


@pytest.mark.parametrize(
    "gone, message",
    [
        (["config.json"], "no config.json there"),
        (["model.safetensors"], "no weights there (model.safetensors)"),
        (["tokenizer.json"], "no tokenizer there"),
    ],
)
def test_model_folder_incomplete(sightline_command, model_folder, tmp_path, gone, message):
    folder = model_without(model_folder("bert"), tmp_path, *gone)
    check_error(sightline_command("look", TEXT, "--model", folder), message)


def test_pickle_is_never_opened(sightline_command, model_folder, tmp_path):
    folder = model_without(model_folder("bert"), tmp_path, "model.safetensors")
    ran = tmp_path / "ran"
    # Unpickling this would make a file.
    (folder / "pytorch_model.bin").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    check_error(
        sightline_command("look", TEXT, "--model", folder), "the weights are a pickle", "never opened"
    )
    assert not ran.exists()


def test_model_code_is_never_run(sightline_command, model_folder, tmp_path):
    folder = model_without(model_folder("bert"), tmp_path)
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    check_error(sightline_command("look", TEXT, "--model", folder), "runs no code from a model folder")
    assert not ran.exists()


def test_broken_weights(sightline_command, model_folder, tmp_path):
    folder = model_without(model_folder("bert"), tmp_path)
    (folder / "model.safetensors").write_bytes(b"not weights")
    check_error(sightline_command("look", TEXT, "--model", folder), "its weights do not load")


def test_broken_config(sightline_command, model_folder, tmp_path):
    folder = model_without(model_folder("bert"), tmp_path)
    (folder / "config.json").write_text("{")
    check_error(sightline_command("look", TEXT, "--model", folder), "config.json")


def test_hub_name_without_a_network(sightline_command, monkeypatch):
    from sightline.huggingface import load as model

    def refuse(*_args, **_options):
        raise OSError("We couldn't connect to the hub\nand more lines")

    monkeypatch.setattr(model, "load_pretrained", refuse)
    check_error(
        sightline_command("look", TEXT, "--model", "someone/something"),
        "someone/something",
        "name a local folder",
    )


def test_local_folder_asks_for_local_files_only(model_folder, monkeypatch):
    from sightline.huggingface import load as model

    asked = []
    plain = model.load_pretrained

    def listen(kind, where, local, **options):
        asked.append(local)
        return plain(kind, where, local, **options)

    monkeypatch.setattr(model, "load_pretrained", listen)
    model.load_model(str(model_folder("bert")))
    assert asked == [True, True, True]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    from sightline.common.atomic import write_atomically

    path = tmp_path / "page.html"
    path.write_text("old")

    def parts():
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, parts())
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["page.html"]


def test_dense_bias_beyond_the_limit(monkeypatch):
    import torch

    from sightline.reading.errors import InputError
    from sightline.view import carried

    monkeypatch.setattr(carried, "DENSE_LIMIT", 100)
    with pytest.raises(InputError, match=r"the bias of layer 3 is dense, 2 x 5 x 5 \(0 MB\).*--max-tokens"):
        carried._bias(torch.randn(2, 5, 5), "layer 3")
