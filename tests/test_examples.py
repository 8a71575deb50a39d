"""The programs in examples/ run, and what they print is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXT = "Well, Prince, so Genoa and Lucca are now just family estates of the Buonapartes. " * 4


def example(name):
    """A program as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def long_context(tmp_path, capsys):
    """Runs examples/long_context.py TEXT ARGUMENTS in this process."""
    pytest.importorskip("transformers", reason="the example runs a Transformers model")
    module = example("long_context")
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


def test_lines_that_turn():
    lines = example("turning").lines()
    texts, half = {text for text, _ in lines}, len(lines) // 2
    assert len({text for text, _ in lines[:half]}) == half > 5000
    unseen = [line.split("\t")[0] for line in (EXAMPLES / "turning-test.tsv").read_text().splitlines()]
    assert len(unseen) == 20 and not texts & set(unseen)
    assert 0.4 < sum(label == "pos" for _, label in lines) / len(lines) < 0.6
    assert all(re.fullmatch(r"[A-Z][a-zA-Z ,']*\.", text) for text, _ in lines[:half])
    labels = dict(lines[:half])
    for text, label in lines[half:]:  # alone without its end, or with another that says the same
        parts = re.split(r"(?<=\.) ", text)
        assert len(parts) == 2 or f"{text}." in labels or ", and " in text
        assert all(labels[part] == label for part in parts if part in labels)
    assert not [text for text in texts if re.search(r"\b[Aa] [aeio]", text)]


def test_parts_of_reviews_that_a_model_is_sure_of(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    module = example("reviews")
    texts = [" ".join(f"w{row}n{at}" for at in range(count)) for row, count in enumerate((2, 9, 40))]
    parts = module.parts_of(texts, times=20)
    assert len(set(parts)) == len(parts) > 20 and texts[0] in parts
    assert all(any(part in text for text in texts) for part in parts)
    assert {len(part.split()) for part in parts} <= {2, *range(4, 17)}
    assert parts == module.parts_of(texts, times=20) != sorted(parts)

    def judge(some):
        return [
            {"label": "pos" if "n1 " in each else "neg", "score": 0.6 + 0.4 * ("n5" in each)} for each in some
        ]

    rows = module.judged(parts, judge)
    assert [text for text, _ in rows] == [part for part in parts if "n5" in part]
    assert all((label == "pos") == ("n1 " in text) for text, label in rows)


def test_sources_lie_in_one_part(tmp_path, capsys):
    import lzma

    rows = [f"s{i // 2}\tp{i}\tsays {i} of s{i // 2}\tline {i}" for i in range(7000)]
    data = tmp_path / "data.tsv.xz"
    data.write_bytes(lzma.compress("\n".join(["source\tpackage\ttext\tsummary", *rows, ""]).encode()))
    example("descriptions").main(str(data), str(tmp_path / "parts"))
    assert capsys.readouterr().out == "train: 400 rows\nvalid: 2,600 rows\ntest: 4,000 rows\n"
    parts = [(tmp_path / "parts" / f"{part}.tsv").read_text() for part in ("train", "valid", "test")]
    sources = [set(re.findall(r"of (s\d+)\t", part)) for part in parts]
    assert [len(each) for each in sources] == [200, 1300, 2000] and len(set.union(*sources)) == 3500
