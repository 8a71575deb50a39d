"""A side in a process of its own, so that neither benefits from memory or caches that the other left."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sightline.bench.beside.side import SideJob, run_side
from sightline.common.errors import CommandError
from sightline.tasks.progress import ProgressDisplay
from sightline.tasks.registry import find_task

JobRunner = Callable[[SideJob], dict[str, Any]]


def run_apart(job: SideJob) -> dict[str, Any]:
    """The result of :func:`run_side`, with its progress on stderr.

    Raises:
        CommandError: if the side raised one, or its process ended.
        KeyboardInterrupt: after Ctrl-C; the process has ended by then.
    """
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job))
    process.start()
    theirs.close()
    try:
        kind, answer = connection.recv()
    except EOFError:
        process.join()
        raise CommandError(f"{job.side}: its process ended (exit code {process.exitcode})") from None
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        process.join()
    if kind == "error":
        raise CommandError(answer)
    result: dict[str, Any] = answer
    return result


def _serve(connection: Connection, job: SideJob) -> None:
    try:
        with ProgressDisplay(job.recipe.epochs, find_task(job.task).metric) as shown:
            connection.send(("answer", run_side(job, shown)))
    except CommandError as error:
        connection.send(("error", str(error)))
    except KeyboardInterrupt:
        return
