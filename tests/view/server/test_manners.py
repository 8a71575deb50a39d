"""Strangers, nonsense, bounds; work that stops; slow work that keeps nobody waiting."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
import torch

from sightline.cli import main
from sightline.view.pyramid import Region
from sightline.view.server import cache as caches
from sightline.view.server.cancel import Cancel, StoppedError
from sightline.view.server.jobs import Computations, Urgency
from sightline.view.server.overview import Overview

from .conftest import LENGTH


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1:1"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_strangers_are_refused(client, headers):
    answer = client.get("/api/traces", headers=headers)
    assert answer.status_code == 403 and answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers


def test_friends_are_not(client):
    for headers in ({}, {"host": "localhost:8417"}, {"origin": "http://127.0.0.1:8417"}):
        answer = client.get("/api/traces", headers=headers)
        assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path, status",
    [
        ("/nothing", 404),
        ("/web/..%2f..%2fcommand.py", 404),
        ("/web/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/web/page.html", 404),
        ("/api/traces/nothing", 404),
        ("{here}/calls/9", 404),
        ("{here}/calls/9/tile?level=0&row=0&column=0", 404),
        ("{here}/calls/0/tile", 400),
        ("{here}/calls/0/tile?level=99&row=0&column=0", 400),
        ("{here}/calls/0/tile?level=0&row=6&column=0", 404),
        ("{here}/calls/0/tile?level=0&row=0&column=0&head=2", 400),
        ("{here}/calls/0/tile?level=0&row=0&column=0&reduce=sum", 400),
        ("{here}/calls/0/tile?level=0&row=٣&column=0", 400),
        ("{here}/calls/0/tile?level=0&row=--1&column=0", 400),
        ("{here}/calls/0/row?query=1300", 400),
        ("{here}/calls/0/stages?head=mean&query=1", 400),
        ("{here}/calls/0/stages?query=1&k=101", 400),
        ("{here}/tokens?count=1000000", 400),
        ("{here}/find?text=", 400),
        ("/api/traces?" + "x" * 3000, 414),
    ],
)
def test_nonsense_is_told(client, here, path, status):
    answer = client.get(path.replace("{here}", here))
    assert answer.status_code == status
    assert answer.json()["error"]


def test_the_page_and_its_modules(client):
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    assert "{{" not in page.text
    links = re.findall(r'(?:href|src)="(/web/[^"]+)"', page.text)
    assert "/web/main.js" in links and "/web/map/map.css" in links
    kinds = {".js": "javascript", ".css": "text/css"}
    for link in [*links, "/web/compute/worker.js"]:
        found = client.get(link)
        assert found.status_code == 200
        assert kinds[link[link.rindex(".") :]] in found.headers["content-type"]


def test_cache_is_bounded():
    cache = caches.Cache(100)
    for i in range(20):
        cache.put(i, f"value {i}", 30)
        assert cache.used <= 100
        cache.get(0)
    assert cache.get(0) == "value 0" and cache.get(1) is None and len(cache) == 3
    cache.put("large", 1, 101)
    assert cache.get("large") is None and cache.used == 90


def test_work_that_nobody_waits_for_stops():
    jobs, stopped, begun = Computations(1), threading.Event(), threading.Event()

    def endless(cancel):
        begun.set()
        assert cancel.wait(30)
        stopped.set()
        raise StoppedError

    first, second = (jobs.join("same", Urgency.EXACT, endless) for _ in range(2))
    assert first is second and begun.wait(30)
    jobs.leave(first)
    assert not first.cancel.is_set()
    jobs.leave(first)
    assert stopped.wait(30)
    assert jobs.join("same", Urgency.EXACT, lambda cancel: 5).future.result(30) == 5
    jobs.stop()


def test_a_stopped_pass_goes_on_where_it_was(trace):
    overview, whole = (Overview(trace[0].matrix[:, :1], 0) for _ in range(2))
    whole.refine(Cancel())
    overview.sample(Cancel())
    assert not overview.exact and overview.share == 0

    class AfterTwo(Cancel):
        looks = 0

        def is_set(self):
            self.looks += 1
            return self.looks > 2

    stops = 0
    while not overview.exact:
        before = overview.share
        try:
            overview.refine(AfterTwo())
        except StoppedError:
            assert before < overview.share < 1
            stops += 1
    assert stops == 81  # 163 pieces, two at a time: none is done twice
    for cell in (2, 8):
        region = Region(0, LENGTH, 0, LENGTH, cell)
        for reduce in ("mean", "max"):
            (found, sampled), (expected, _) = overview.picture(region, reduce), whole.picture(region, reduce)
            assert not sampled
            torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)


def test_slow_work_lets_quick_work_pass():
    jobs, begun, go, order = Computations(1), threading.Event(), threading.Event(), []

    def slow(cancel):
        begun.set()
        assert go.wait(30)
        cancel.check()
        order.append("slow")

    def quick(cancel):
        go.set()
        time.sleep(0.05)
        cancel.check()
        order.append("quick")

    waiting = jobs.join("slow", Urgency.WHOLE, slow)
    assert begun.wait(30)
    jobs.join("quick", Urgency.QUICK, quick).future.result(30)
    waiting.future.result(30)
    assert order == ["quick", "slow"]
    jobs.stop()


def get(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def test_slow_work_blocks_nobody_and_stops_with_its_client(running, here, monkeypatch):
    from sightline.view.server import readings, service

    monkeypatch.setattr(service, "AT_ONCE", 0)
    begun, stopped = threading.Semaphore(0), threading.Semaphore(0)

    def endless(matrix, cancel):
        begun.release()
        assert cancel.wait(30)
        stopped.release()
        raise StoppedError

    monkeypatch.setattr(readings, "entropy", endless)
    host, port = running.removeprefix("http://").split(":")
    asked = []
    for head in (0, 1):
        asked.append(socket.create_connection((host, int(port))))
        asked[-1].sendall(
            f"GET {here}/calls/0/entropy?head={head} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        )
        assert begun.acquire(timeout=30)
    # Both slow workers are busy: a quick answer comes all the same.
    assert len(get(f"{running}{here}/calls/0/row?head=0&query=5")) == 4 * 1300
    assert not stopped.acquire(blocking=False)
    for connection in asked:
        connection.close()
        assert stopped.acquire(timeout=30)


def test_a_newer_generation_stops_the_older(running, here, monkeypatch):
    from sightline.view.server import readings, service

    monkeypatch.setattr(service, "AT_ONCE", 0)
    begun, stopped = threading.Event(), threading.Event()

    def endless(matrix, cancel):
        begun.set()
        assert cancel.wait(30)
        stopped.set()
        raise StoppedError

    monkeypatch.setattr(readings, "entropy", endless)
    answers = []

    def ask():
        try:
            get(f"{running}{here}/calls/0/entropy?client=a&generation=1")
        except urllib.error.HTTPError as error:
            answers.append((error.code, json.load(error)["error"]))
            error.close()

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(30)
    get(f"{running}{here}/calls/0/row?query=0&client=a&generation=2")
    assert stopped.wait(30)
    thread.join(30)
    assert answers == [(409, "The page has asked for something newer.")]


def test_port_in_use(capsys, saved):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(saved), "--port", str(port), "--no-open"]) == 1
    err = capsys.readouterr().err
    assert f"--port {port}: is in use" in err and "--port 0" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["missing.safetensors"], "missing.safetensors"),
        (["--pair", "x"], "--text"),
        (["x", "--max-upload", "-1"], "--max-upload -1"),
        (["--text", "x", "--model", "no-such-folder/x"], "no-such-folder"),
        (["{bad}"], "is not a valid trace"),
        (["x", "--port", "70000"], "--port 70000"),
        (["x", "--host", "203.0.113.7"], "--host 203.0.113.7"),
    ],
)
def test_what_cannot_be_served(capsys, tmp_path, monkeypatch, arguments, told):
    # Without a network, Hugging Face's library would try again and again for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x10\0\0\0\0\0\0\0{ nonsense")
    given = [str(bad) if each == "{bad}" else each for each in arguments]
    if "--port" not in given:
        given += ["--port", "0"]
    assert main(["serve", "--no-open", *given]) == 1
    err = capsys.readouterr().err
    assert told in err and err.startswith("sightline: ") and err.count("\n") == 1


def test_ctrl_c_ends_at_once(saved):
    command = [sys.executable, "-m", "sightline", "serve", str(saved), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http"))
        assert json.loads(get(f"{address}api/traces"))["traces"][0]["title"] == "small.safetensors"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        assert "Traceback" not in process.stderr.read()
