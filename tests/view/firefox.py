"""Pages in Firefox as Debian has it, by WebDriver BiDi: Playwright drives only a Firefox of its own making."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

FIREFOX = os.environ.get("SIGHTLINE_FIREFOX") or shutil.which("firefox-esr")
_PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
}
_KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "ArrowRight": "\ue014", "ArrowLeft": "\ue012"}
_PATIENCE = 60  # seconds
_READY = "document.documentElement.dataset.ready === 'true'"
#: What a page may ask for: itself, and what it made.
LOCAL = ("file:", "blob:", "data:", "about:")


class Firefox:
    """A headless Firefox with one tab, in which every error and every request from a page is kept."""

    def __init__(self, folder: Path) -> None:
        client = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
        if FIREFOX is None:
            pytest.skip("firefox-esr is not installed")
        lines = (
            f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()
        )
        (folder / "user.js").write_text("\n".join(lines), encoding="utf-8")
        self.owned = contextlib.ExitStack()
        self.process = subprocess.Popen(
            [FIREFOX, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=self.owned.enter_context((folder / "told.txt").open("wb")),
            env={**os.environ, "HOME": str(folder)},
        )
        self.owned.callback(self._end)
        address = self._address(folder / "told.txt")
        self.socket = self.owned.enter_context(client.connect(f"{address}/session", max_size=None))
        self.numbers = itertools.count(1)
        self.allowed: tuple[str, ...] = LOCAL
        self.problems: list[str] = []
        self.ask("session.new", capabilities={})
        self.tab = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        self.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])

    def _address(self, told: Path) -> str:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(rb"BiDi listening on (ws://\S+)", told.read_bytes()):
                return found[1].decode()
            time.sleep(0.05)
        self.close()
        pytest.fail(f"{FIREFOX} does not listen: {told.read_text(errors='replace')[-500:]}")

    def ask(self, method: str, **given: Any) -> Any:
        """The result of a command; what happens meanwhile is kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            told = json.loads(self.socket.recv(timeout=_PATIENCE))
            if told.get("id") == number:
                assert told["type"] == "success", told
                return told["result"]
            self._keep(told)

    def _keep(self, told: dict[str, Any]) -> None:
        given = told.get("params", {})
        if told.get("method") == "log.entryAdded" and given["level"] == "error":
            self.problems.append(given["text"] or "an error without a text")
        if told.get("method") == "network.beforeRequestSent":
            address = given["request"]["url"]
            if not address.startswith(self.allowed):
                self.problems.append(address)

    def open(self, address: str, width: int = 1280, height: int = 900, ready: str = _READY) -> None:
        """Opens a page, and waits until it is ready."""
        self.ask("browsingContext.setViewport", context=self.tab, viewport={"width": width, "height": height})
        self.ask("browsingContext.navigate", context=self.tab, url=address, wait="complete")
        self.wait(ready)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression: text, number, truth or None."""
        target = {"context": self.tab}
        told = self.ask("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert told["type"] == "success", told
        return told["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until an expression is true."""
        until = time.monotonic() + _PATIENCE
        while not self.evaluate(expression):
            assert time.monotonic() < until, f"never came true: {expression}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Presses keys, each a name such as "Enter" or a text that is typed."""
        actions = [
            {"type": kind, "value": value}
            for key in keys
            for value in ([_KEYS[key]] if key in _KEYS else key)
            for kind in ("keyDown", "keyUp")
        ]
        typed = {"type": "key", "id": "keyboard", "actions": actions}
        self.ask("input.performActions", context=self.tab, actions=[typed])

    def close(self) -> None:
        """Ends the browser."""
        self.owned.close()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
