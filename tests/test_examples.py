"""The programs in examples/ run, and what they print is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXT = "Well, Prince, so Genoa and Lucca are now just family estates of the Buonapartes. " * 4


@pytest.fixture
def long_context(tmp_path, capsys):
    """Runs examples/long_context.py TEXT ARGUMENTS in this process."""
    pytest.importorskip("transformers", reason="the example runs a Transformers model")
    spec = importlib.util.spec_from_file_location("long_context", EXAMPLES / "long_context.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")

    def run(*arguments):
        code = module.main([str(tmp_path / "text.txt"), *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    run.module = module
    return run


def test_numbers_and_picture(long_context, tmp_path):
    import torch

    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    code, out, err = long_context(
        "--tokens", 200, "--head", 3, "--query", 150, "--output", tmp_path / "x.png"
    )
    assert code == 0, err
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    model = long_context.module.random_model(200)
    with torch.no_grad():
        layers = model(torch.tensor([list(TEXT.encode()[:200])]), output_attentions=True).attentions
    dense = layers[-1].dense()[0].double()
    printed = [float(x) for x in re.search(r"layer 1: (.*)", out)[1].split()]
    assert printed == pytest.approx(torch.special.entr(dense).sum(-1).mean(-1).tolist(), abs=1e-3)
    weights, keys = zip(*re.findall(r"([\d.]+)  key (\d+), ", out), strict=True)
    assert [float(w) for w in weights] == pytest.approx(dense[3, 150].topk(8)[0].tolist(), abs=2e-6)
    assert set(map(int, keys)) <= set(range(151))
    assert f"query 150, {TEXT[150]!r}" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--tokens", 0), "--tokens 0: must be 1 or more"),
        (("--tokens", 20, "--head", 4), "--head 4: there are 4, 0 to 3"),
        (("--output", "x.gif"), "must end in .png"),
        (("--output", "no/x.png"), "the folder no does not exist"),
    ],
)
def test_bad_input_is_one_line(long_context, arguments, message):
    code, _, err = long_context(*arguments)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_row_is_traced_while_it_is_reversed(tmp_path, capsys):
    """Trained for two steps; the gallery's page trains until it is right."""
    spec = importlib.util.spec_from_file_location("reversing", EXAMPLES / "reversing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([str(tmp_path / "page.html"), "--steps", "2"]) == 0
    assert capsys.readouterr().out.startswith("fabinopdhgce -> ")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "fabinopdhgce \u2192 " in page
    assert '"name":"relevance"' in page
