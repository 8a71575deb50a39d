"""A run tells what was met, what not and what could not be run; the page shows it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from published.line import Line, NotRunError, number
from published.page import page
from published.run import Outcome, check, exit_code
from published.source import SOURCES, Source

SOURCE = Source("made_up", "A model", "no-such-package", "MIT", "What it is.")
MET, UNMET = number("x", 0.5, 0.5, 1e-5), number("y | z", 0.5, 0.7, 1e-5)


@pytest.fixture
def checked(monkeypatch):
    """Runs ``lines`` as the check of a source."""

    def checked(lines):
        module = ModuleType("published.made_up")
        module.lines = lines
        monkeypatch.setitem(sys.modules, "published.made_up", module)
        heard: list[Line] = []
        outcome = check(SOURCE, None, heard.append)
        assert heard == outcome.lines
        return outcome

    return checked


def test_all_met(checked):
    outcome = checked(lambda speech: iter([MET, MET]))
    assert outcome.met
    assert exit_code([outcome]) == 0


def test_a_number_too_far_away(checked):
    outcome = checked(lambda speech: iter([MET, UNMET]))
    assert not outcome.met
    assert exit_code([outcome, Outcome(SOURCE, [MET])]) == 1


def test_nothing_met_is_not_met(checked):
    assert exit_code([checked(lambda speech: iter([]))]) == 2


def test_something_that_nobody_gave(checked):
    def lines(speech):
        yield MET
        raise NotRunError("no speech")

    outcome = checked(lines)
    assert outcome.lines == [MET]
    assert outcome.lacking == "no speech"
    assert exit_code([outcome]) == 2


def test_a_package_that_is_not_there(checked):
    def lines(speech):
        import no_such_package  # noqa: F401

        yield MET

    outcome = checked(lines)
    assert "no module no_such_package. make published installs" in outcome.lacking
    assert exit_code([outcome]) == 2


def test_an_error_is_told_with_its_place(checked):
    def lines(speech):
        yield MET
        raise ValueError("query: wrong")

    outcome = checked(lines)
    assert "in lines" in outcome.error
    assert "ValueError: query: wrong" in outcome.error
    assert exit_code([outcome]) == 1


def test_a_module_of_ours_that_is_missing_is_no_missing_package():
    with pytest.raises(ModuleNotFoundError, match="published.nowhere"):
        check(Source("nowhere", "", "", "", ""), None, print)


def test_the_page():
    told = page([Outcome(SOURCE, [MET, UNMET])], {"PyTorch": "2"})
    assert told.startswith("# Checked against others\n")
    assert "## A model\nWhat it is.\n" in told
    assert "Terms: MIT." in told
    assert "| y \\| z | 0.5000 | 0.7000000 | 2.0e-01 (up to 1e-05) |" in told


def test_every_source_is_told_fully():
    assert len({source.module for source in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        assert all((source.title, source.package, source.terms, source.about))
