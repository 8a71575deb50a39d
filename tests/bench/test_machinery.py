"""The machinery of `sightline bench`, on tiny cases: no figure is asserted, only that they are kept and shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

pytest.importorskip("typer", reason="the command line needs the [app] extra")
pytest.importorskip("rich", reason="the command line needs the [app] extra")

from sightline import cli
from sightline.bench import case as drawn_cases
from sightline.bench import peers
from sightline.bench.case import Case, forget_inputs, inputs
from sightline.bench.host import PeerError, RemoteHost
from sightline.bench.judge import expected, verdict
from sightline.bench.markdown import BEGIN, END
from sightline.bench.pattern import CAUSAL, FULL, DocumentsPattern, LengthsPattern, WindowPattern
from sightline.bench.peers.floor import StreamingRead
from sightline.bench.peers.ours import Sightline
from sightline.bench.peers.peer import Peer, PreparedCase
from sightline.bench.peers.sdpa import Sdpa
from sightline.bench.sections import ON_DEVICE, SECTIONS, load_section
from sightline.bench.session import BenchSettings, Session
from sightline.bench.terminal import Terminal
from sightline.bench.text_table import section_table, written
from sightline.bench.timing import Budget, Samples, Spent, take_turns
from sightline.commands import bench as command

IN_PROCESS = ("sdpa", "eager")
INSTANT = Budget(0.0, least=2, most=2, sample=1e-6)
TINY = BenchSettings(size="tiny", budget=INSTANT, peers=IN_PROCESS, peak_seconds=1e-4)


class Missing(Sdpa):
    title = "a library that nobody has"
    packages = ("no_such_library",)


class Wrong(Sdpa):
    """Doubles the last row."""

    title = "a peer that computes something else"

    def prepare(self, case, given, threads):
        run = super().prepare(case, given, threads)

        def call():
            context = run.call().clone()
            context[:, :, -1] *= 2
            return context

        return PreparedCase(call, lambda context: [context])


class Broken(Peer):
    title = "a peer that raises"

    def prepare(self, case, given, threads):
        raise RuntimeError("no kernel for this\nand a long story")


class Interrupted(Sdpa):
    """Ctrl-C in its second case."""

    title = "a peer that is interrupted"
    cases = 0

    def prepare(self, case, given, threads):
        Interrupted.cases += 1
        if Interrupted.cases == 2:
            raise KeyboardInterrupt
        return super().prepare(case, given, threads)


@pytest.fixture
def fake(monkeypatch):
    """Peers of this file, by name."""
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "bench_fakes", module)
    for name in ("Missing", "Wrong", "Broken", "Interrupted"):
        monkeypatch.setitem(peers.PEERS, name.lower(), f"bench_fakes:{name}")


@pytest.fixture
def tiny(monkeypatch):
    """The command's own settings, tiny."""
    make = command.BenchSettings
    monkeypatch.setattr(
        command,
        "BenchSettings",
        lambda size, threads, budget, peers, device: make(
            "tiny", threads, INSTANT, tuple(p for p in peers if p in IN_PROCESS), 1e-4
        ),
    )


def with_session(settings, *sections, **files):
    with Session(settings) as session:
        command.run(session, sections, Terminal(), command.OutputFiles(**files))


# Memory and trace start a process a row, levels one a peer, and whole models take a while to import.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            n, marks=pytest.mark.slow if n in ("memory", "levels", "models", "endtoend", "trace") else ()
        )
        for n in SECTIONS
    ],
)
def test_every_section_has_rows_that_fill_its_table(name):
    if name in ("models", "endtoend", "trace"):
        pytest.importorskip("transformers")
    section = load_section(name)
    with Session(TINY) as session:
        rows = list(section.rows(session))
        notes = session.notes
    if name in ("memory", "levels") and not rows:
        pytest.skip("not on this machine")
    assert rows
    assert not any(reason.startswith(("wrong", "failed")) for reasons in notes.values() for reason in reasons)
    table = section_table(section, rows, ["sightline", *IN_PROCESS])
    assert all(len(row) == len(table.headings) == len(table.numeric) for row in table.rows)
    assert json.dumps(rows)
    for row in rows:
        assert isinstance(row["case"], str)
        for contender in row.get("contenders", {}).values():
            assert contender.get("status", "ok") in ("ok", "left out")
            assert "ms" not in contender or contender["ms"] > 0


@pytest.mark.parametrize(
    "pattern", [FULL, CAUSAL, WindowPattern(3), LengthsPattern((3, 7)), DocumentsPattern(3)]
)
def test_patterns_count_their_pairs(pattern):
    seen = pattern.dense(2, 7, 7).expand(2, 1, 7, 7)
    assert seen.sum() == pattern.pairs(2, 7, 7)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "pattern", [FULL, CAUSAL, WindowPattern(3), LengthsPattern((3, 7)), DocumentsPattern(3)]
)
@pytest.mark.parametrize("form", ["best", "dense"])
def test_right_results_pass(pattern, form, direction):
    case = Case(7, 4, batch=2, heads=2, pattern=pattern, form=form, direction=direction)
    for peer in (Sightline(), Sdpa()):
        run = peer.prepare(case, inputs(case), 1)
        assert verdict(case, [t.float() for t in run.outputs(run.call())]) == ""


def test_wrong_results_do_not_pass():
    case = Case(7, 4, heads=2, pattern=CAUSAL)
    (right,) = expected(case)
    assert verdict(case, [right.float()]) == ""
    assert "off by" in verdict(case, expected(Case(7, 4, heads=2)))
    assert verdict(case, [right * float("nan")]) == "context: not finite"
    assert verdict(case, [right[:, :, :-1]]) == "context: shape [1, 2, 6, 4], expected [1, 2, 7, 4]"
    assert verdict(case, []) == "gave 0 tensors, expected 1"
    back = Case(7, 4, heads=2, direction="backward")
    query, key, value = expected(back)
    assert verdict(back, [query, -key, value]).startswith("d key: off by")


def test_inputs_are_the_same_everywhere():
    case = Case(5, 4, "bfloat16")
    assert torch.equal(inputs(case).key, inputs(case).key)
    assert not torch.equal(inputs(case).key, inputs(case, copy=1).key)
    assert inputs(case).key.dtype == torch.bfloat16


def test_contenders_of_a_process_read_the_same_memory_until_another_case_is_drawn():
    case = Case(5, 4, bias="learned")
    one, other = inputs(case), inputs(case)
    one.key.requires_grad_()
    assert one.key.data_ptr() == other.key.data_ptr()
    assert not other.key.requires_grad
    Sdpa().forget()  # one that fails leaves before the others are there
    assert inputs(case).key.data_ptr() == one.key.data_ptr()
    inputs(Case(6, 4))
    assert inputs(case).key.data_ptr() != one.key.data_ptr()
    forget_inputs()
    assert torch.equal(inputs(case).bias, one.bias)


def test_a_case_that_was_compared_leaves_no_inputs_behind():
    with Session(BenchSettings("tiny", 1, INSTANT, ("sdpa",), 1e-4)) as session:
        assert session.compare(Case(5, 4))["contenders"]["sdpa"]["status"] == "ok"
    assert not drawn_cases._drawn


def test_each_copy_has_run_once_before_it_is_timed(monkeypatch):
    called = []

    def prepare(self, case, given, threads):
        return PreparedCase(lambda: called.append(given.key[0, 0, 0, 0].item()), lambda _: [given.query])

    monkeypatch.setattr(StreamingRead, "prepare", prepare)
    runs, _ = StreamingRead().load(Case(3, 4, copies=3), 1)
    assert len(runs) == 3
    assert len(set(called)) == 3


def test_a_peer_that_is_missing_wrong_or_broken_is_reported_and_not_timed(fake, tmp_path, capsys):
    settings = BenchSettings("tiny", 1, INSTANT, ("sdpa", "missing", "wrong", "broken"), 1e-4)
    with_session(settings, "forward", json=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    row = report["sections"]["forward"]["rows"][0]
    contenders = row["contenders"]
    assert "missing" not in contenders
    assert contenders["wrong"]["status"] == "wrong" and "ms" not in contenders["wrong"]
    assert contenders["broken"] == {"status": "failed", "why": "RuntimeError: no kernel for this"}
    assert row["best_peer"] == "sdpa"
    assert report["peers"]["missing"]["version"] is None
    out = capsys.readouterr().out
    assert "a library that nobody has: not installed: pip install no_such_library" in out
    assert out.count("a library that nobody has") == 1
    assert "│   wrong │ " in out and "wrong on (1,2,8,4) full float32: context: off by" in out


def test_the_json_holds_everything(tmp_path):
    with_session(TINY, "decode", json=tmp_path / "bench.json")
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["format"] == 1 and report["complete"]
    assert report["settings"] == {"size": "tiny", "threads": 1, "time": "cpu", "budget_seconds": 0.0}
    assert {"date", "processor", "torch", "sightline"} <= set(report["machine"])
    assert set(report["peers"]) == {"sightline", *IN_PROCESS}
    rows = report["sections"]["decode"]["rows"]
    assert [row["dtype"] for row in rows] == ["float32", "bfloat16"]
    for row in rows:
        assert row["x_floor"] > 0 and row["best_peer"] in IN_PROCESS
        ours = row["contenders"]["sightline"]
        assert ours["ratio"] == 1 and len(ours["seconds"]) == row["rounds"] == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "bench.json"]


def test_control_c_keeps_the_finished_rows(fake, tmp_path, capsys):
    Interrupted.cases = 0
    settings = BenchSettings("tiny", 1, INSTANT, ("interrupted",), 1e-4)
    with pytest.raises(SystemExit) as stop:
        with_session(
            settings, "forward", "backward", json=tmp_path / "bench.json", markdown=tmp_path / "bench.md"
        )
    assert stop.value.code == 130
    report = json.loads((tmp_path / "bench.json").read_text())
    assert not report["complete"]
    assert [len(section["rows"]) for section in report["sections"].values()] == [1]
    captured = capsys.readouterr()
    assert f"stopped; 1 finished rows are kept in {tmp_path / 'bench.json'}" in captured.err
    assert "(1,2,8,4) full" in captured.out
    assert "**not a whole run**" in (tmp_path / "bench.md").read_text()


def test_the_page_keeps_what_people_wrote(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\nbefore\n{BEGIN}\nold figures\n{END}\nafter\n")
    with_session(TINY, "backward", markdown=page)
    text = page.read_text()
    assert text.startswith(f"# Mine\nbefore\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
    assert "old figures" not in text and "## Backward" in text and "| (1,2,8,4) causal | bfloat16 |" in text
    with_session(TINY, "backward", markdown=page)
    assert page.read_text().count("## Backward") == 1


def test_a_page_that_does_not_exist_is_created(tmp_path):
    with_session(TINY, "backward", markdown=tmp_path / "new.md")
    text = (tmp_path / "new.md").read_text()
    assert text.startswith("# Benchmarks") and text.count(BEGIN) == text.count(END) == 1


def test_the_docs_have_a_place_for_the_figures():
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_plot(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"bench{suffix}"
    with_session(TINY, "forward", "backward", plot=path)
    assert path.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "forwards"], "--only forwards: there is no such one; known: forward, backward, "),
        (["--peer", "mkl"], "--peer mkl: there is no such one; known: sightline, sdpa, "),
        (["--threads", "0"], "--threads 0: at least 1"),
        (
            ["--json", "no/such/folder.json"],
            "cannot write no/such/folder.json: the folder no/such does not exist",
        ),
        (["--markdown", "."], "cannot write .: it is a folder"),
        (["--plot", "bench.gif"], "--plot bench.gif: the name must end in .svg, .png, .pdf"),
        (["--json", "x", "--markdown", "x"], "two files are to be written to x"),
    ],
)
def test_mistakes_are_reported_before_anything_is_measured(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "Session", None)
    assert cli.main(["bench", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"sightline: {message}")
    assert captured.err.count("\n") == 1


def test_a_page_without_marks_is_left_alone(monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("mine\n")
    assert cli.main(["bench", "--markdown", str(page)]) == 1
    err = capsys.readouterr().err
    assert "the page has no place for the figures" in err and BEGIN in err and END in err
    assert page.read_text() == "mine\n"


def test_a_plot_needs_something_to_show(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert cli.main(["bench", "--only", "errors", "--plot", str(tmp_path / "x.svg")]) == 1
    assert "--plot shows forward and backward" in capsys.readouterr().err


def test_list(capsys):
    assert cli.main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    for name in (*SECTIONS, *ON_DEVICE, *peers.PEERS):
        assert name in out or name in peers.HIDDEN


def test_the_command_itself(tiny, capsys, tmp_path):
    path = tmp_path / "bench.json"
    assert cli.main(["bench", "--only", "backward", "--only", "errors", "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert list(json.loads(path.read_text())["sections"]) == ["backward", "errors"]
    assert not json.loads(path.read_text())["complete"]
    assert "Backward" in captured.out and "Errors against float64" in captured.out
    # In a pipe: no control characters, a line for each row on stderr.
    assert "\033" not in captured.out + captured.err
    assert "backward: (1,2,8,4) full float32" in captured.err and f"wrote {path}" in captured.err


def test_sightline_being_wrong_is_an_error(monkeypatch, fake, capsys):
    monkeypatch.setitem(peers.PEERS, "sightline", "bench_fakes:Wrong")
    with pytest.raises(command.CommandError, match="Sightline's own result: wrong on"):
        with_session(TINY, "forward")


def test_turns_are_taken_in_rounds():
    order = []

    def contender(name):
        def timed(number):
            order.append(name)
            return Spent(1.0, 1.0)

        return timed

    def run():
        order.clear()
        return take_turns({name: contender(name) for name in "abcd"}, Budget(0, least=12, most=12))

    samples = run()
    assert samples["a"].seconds == [1.0] * 12
    rounds = ["".join(order[at : at + 4]) for at in range(4, len(order), 4)]
    assert "".join(order[:4]) == "abcd" and all(sorted(one) == list("abcd") for one in rounds)
    assert {one[0] for one in rounds} == set("abcd")  # nobody is always the first
    before = list(order)
    run()
    assert order == before


def test_ratios_are_of_the_same_round():
    ours, theirs = Samples([1, 10, 1]), Samples([2, 20, 2])
    assert ours.over(theirs) == 2 and ours.over(ours) == 1 and ours.median == 1


@pytest.mark.parametrize(
    "value, kind, text",
    [
        (None, "ms", "–"), (0.01234, "ms", "0.0123"), (3.14159, "ms", "3.14"), (1234.5, "ms", "1234"),
        (0.756, "percent", "76 %"), (1.5, "ratio", "1.50"), (1.23e-7, "error", "1.2e-07"), ("x", "text", "x"),
    ],
)  # fmt: skip
def test_figures_as_text(value, kind, text):
    assert written(value, kind) == text


def test_a_process_of_its_own():
    case = Case(7, 4, heads=2, pattern=CAUSAL)
    host = RemoteHost("sdpa", 1, {"SIGHTLINE_TEST": "1"})
    try:
        assert verdict(case, host.load(case)) == ""
        assert host.time(3).wall > 0
        host.drop()
        with pytest.raises(PeerError, match="StopIteration"):
            host.time(1)
        host._process.kill()
        host._process.join()
        with pytest.raises(PeerError, match="its process ended"):
            host.load(case)
    finally:
        host.close()
    assert "SIGHTLINE_TEST" not in os.environ


@pytest.mark.slow
def test_a_real_interrupt(tmp_path):
    path = tmp_path / "bench.json"
    program = "import sys; from sightline.cli import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.Popen(
        [sys.executable, "-c", program, "bench", "--quick", "--only", "backward", "--peer", "sdpa", "--json", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    guard = threading.Timer(120, run.kill)
    guard.start()
    assert run.stderr is not None
    assert "backward: " in run.stderr.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    guard.cancel()
    assert run.returncode == 130 and "stopped; " in err and "Traceback" not in err
    assert not json.loads(path.read_text())["complete"]
