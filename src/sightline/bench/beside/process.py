"""A side in a process of its own, so that neither finds memory or caches that the other left."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from sightline.bench.beside.side import Job, run_side
from sightline.common.errors import CommandError
from sightline.tasks.progress import Shown
from sightline.tasks.registry import find_task

Runner = Callable[[Job], dict[str, Any]]


def run_apart(job: Job) -> dict[str, Any]:
    """What :func:`run_side` returns, with its progress on stderr.

    Raises:
        CommandError: what the side raised, or that its process ended.
        KeyboardInterrupt: after Ctrl-C; the process is gone then.
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
    found: dict[str, Any] = answer
    return found


def _serve(connection: Connection, job: Job) -> None:
    try:
        with Shown(job.recipe.epochs, find_task(job.task).metric) as shown:
            connection.send(("answer", run_side(job, shown)))
    except CommandError as error:
        connection.send(("error", str(error)))
    except KeyboardInterrupt:
        return
