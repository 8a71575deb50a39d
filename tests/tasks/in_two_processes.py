"""What two processes find together; run by torchrun, see test_processes.py."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch
from test_tasks import Losses, fit_in_parts, interrupt, make_run

from sightline.common.errors import CommandError
from sightline.tasks import joined
from sightline.tasks.processes import ElsewhereError
from sightline.tasks.sentiment import Sentiment


def check_interruptions(data, folder, processes):
    """Ctrl-C in process 1 stops both; losses, figures and weights are those of a run that never was."""
    whole = Losses()
    first = make_run(data, folder / "whole", processes=processes)
    history = first.fit(whole)
    stop = interrupt if processes.rank == 1 else lambda: None
    run, losses, found, stops = fit_in_parts(
        lambda: make_run(data, folder / "parts", processes=processes), stop
    )
    assert stops > 2 and losses == whole.losses and found == history
    for one, other in zip(first.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(one, other)
        there = processes.gathered(one.detach())
        assert torch.equal(there[0], there[1])
    drawn = processes.gathered(torch.rand(5))
    assert not torch.equal(drawn[0], drawn[1])


def check_an_error(data, folder, processes):
    """It comes up where it was made, and ends the other too."""

    class Broken(Sentiment):
        def loss(self, model, examples, recipe):
            if processes.rank == 1:
                raise CommandError("broken")
            return super().loss(model, examples, recipe)

    run = make_run(data, folder / "broken", Broken(), processes=processes)
    error, told = (CommandError, "broken") if processes.rank else (ElsewhereError, "process 1 of 2 failed")
    with pytest.raises(error, match=told):
        run.fit()


def check_a_full_disk(data, folder, processes):
    """Process 0 alone writes; the other does not go on without it."""
    run = make_run(data, folder / "full", processes=processes)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow beyond that
    error, told = (ElsewhereError, "process 0") if processes.rank else (CommandError, "cannot write")
    try:
        with pytest.raises(error, match=told):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def check_other_data(processes):
    """As copies on several machines may be; process 0 tells."""
    with pytest.raises(CommandError) as caught:
        processes.check_same({"task": "one", "data": processes.rank})
    assert ("process 1 has another data than process 0" in str(caught.value)) == (processes.rank == 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = Path(sys.argv[1]), Path(sys.argv[2])
    with joined() as both:
        assert both.count == 2
        check_interruptions(*given, both)
        check_an_error(*given, both)
        check_a_full_disk(*given, both)
        check_other_data(both)
