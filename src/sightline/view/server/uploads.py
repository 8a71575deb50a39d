"""Uploaded traces: streamed to files of their own, checked like any file, removed with the server."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from sightline.view.server.asked import RefusedError
from sightline.view.server.catalogue import OpenTrace, ServeError, open_file

#: Megabytes that all uploads together may take by default.
MEGABYTES = 512


class Uploads:
    """A temporary folder for uploads, of bounded size."""

    def __init__(self, megabytes: int = MEGABYTES) -> None:
        self.limit = megabytes << 20
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sizes: dict[Path, int] = {}

    async def take(self, name: str, body: AsyncIterator[bytes]) -> OpenTrace:
        """Keep and open one trace.

        Raises:
            RefusedError: 413 when it is too large, 400 when it is not a valid trace.
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sightline-", ignore_cleanup_errors=True)
        # The name that it came with is a title, never a path.
        path = Path(self._folder.name) / f"{secrets.token_hex(8)}.safetensors"
        title = " ".join(name.split())[:80] or "an uploaded trace"
        try:
            await self._write(path, body)
            return await run_in_threadpool(open_file, path, title, 0, secrets.token_hex(6))
        except BaseException as error:
            with suppress(PermissionError):  # Windows: it is still mapped, and goes with its folder
                path.unlink(missing_ok=True)
            self._sizes.pop(path, None)
            if isinstance(error, ServeError):
                raise RefusedError(400, str(error)) from None
            raise

    async def _write(self, path: Path, body: AsyncIterator[bytes]) -> None:
        self._sizes[path] = 0
        with path.open("xb") as file:
            async for part in body:
                # Counted before it is written: those that come at the same time share the limit.
                self._sizes[path] += len(part)
                if sum(self._sizes.values()) > self.limit:
                    raise RefusedError(
                        413,
                        f"The uploads are larger than {self.limit >> 20} MB together: "
                        "serve the file itself, or give --max-upload.",
                    )
                await run_in_threadpool(file.write, part)

    def stop(self) -> None:
        """Removes everything."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
