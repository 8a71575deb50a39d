"""Texts that are typed in the page and traces that it sends: bounded, checked, stopped, and then shown."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from sightline.commands.opening import open_model
from sightline.view.server.app import create_app
from sightline.view.server.reader import Reader, ReadJob
from sightline.view.server.routes import incoming as routes
from sightline.view.server.service import Service
from sightline.view.server.uploads import Uploads

JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}


@pytest.fixture
def open_service(model_folder):
    """A service without traces, with a tiny model and room for 1 MB."""
    services = []

    def make(model="bert"):
        service = Service([])
        service.reader = Reader(str(model_folder(model)), open_model, service.add)
        service.uploads = Uploads(1)
        services.append(service)
        return service, TestClient(create_app(service, None), headers={"origin": "http://testserver"})

    yield make
    for service in services:
        service.stop()


def wait(client, job, until=30.0):
    end = time.monotonic() + until
    while time.monotonic() < end:
        told = client.get(f"/api/jobs/{job}").json()
        if told["trace"] or told["error"]:
            return told
        time.sleep(0.02)
    raise AssertionError("the job did not end")


@pytest.mark.parametrize("model, pair", [("bert", None), ("t5", "a dog"), ("t5", None)])
def test_a_typed_text_is_read(open_service, model, pair):
    service, client = open_service(model)
    assert client.get("/api/traces").json() | {"version": 0} == {
        "version": 0, "can": {"read": True, "upload": True}, "traces": [],
    }  # fmt: skip
    job = client.post("/api/read", json={"text": "the cat sat on the mat", "pair": pair}).json()["job"]
    told = wait(client, job)
    assert told["error"] is None and told["share"] == 1
    about = client.get(f"/api/traces/{told['trace']}").json()
    assert about["texts"][0] == "the cat sat on the mat"
    names = [section["name"] for section in about["sections"]]
    assert names == (["encoder"] if model == "bert" else ["encoder", "decoder", "cross"])
    tokens = client.get(f"/api/traces/{told['trace']}/tokens").json()["texts"]
    assert "cat" in tokens and about["start"]["query"] is not None
    last = about["sections"][-1]["layers"][-1]["call"]
    row = client.get(f"/api/traces/{told['trace']}/calls/{last}/row", params={"query": 0, "head": 0})
    assert row.status_code == 200


def test_a_reading_can_be_stopped(open_service, monkeypatch):
    service, client = open_service()
    gate, begun = threading.Event(), threading.Event()
    load = Reader._load

    def slow(self, job):
        opened = load(self, job)
        begun.set()
        gate.wait(30)
        return opened

    monkeypatch.setattr(Reader, "_load", slow)
    job = client.post("/api/read", json={"text": "the cat"}).json()["job"]
    assert begun.wait(30)
    client.delete(f"/api/jobs/{job}")
    gate.set()
    assert wait(client, job)["error"] == "The reading was stopped."
    assert client.get("/api/traces").json()["traces"] == []
    assert client.get("/api/jobs/none").status_code == 404


def test_a_reading_is_stopped_in_the_models_midst(open_service):
    service, client = open_service()
    opened = service.reader._load(ReadJob())
    layers, begun, gate = opened.model.encoder.layer, threading.Event(), threading.Event()
    ran = []
    layers[0].register_forward_hook(lambda *_: (begun.set(), gate.wait(30), None)[-1])
    layers[1].register_forward_hook(lambda *_: ran.append(1))
    job = client.post("/api/read", json={"text": "the cat"}).json()["job"]
    assert begun.wait(30)
    assert client.get("/api/traces").status_code == 200  # nobody waits meanwhile
    client.delete(f"/api/jobs/{job}")
    gate.set()
    assert wait(client, job)["error"] == "The reading was stopped." and ran == []


@pytest.mark.parametrize("headers, status", [({}, 403), ({"sec-fetch-site": "same-origin"}, 200)])
def test_what_changes_something_says_where_it_comes_from(open_service, headers, status):
    service, _ = open_service()
    client = TestClient(create_app(service, None))
    answer = client.post("/api/read", json={"text": "the cat"}, headers=headers)
    assert answer.status_code == status
    name = service.reader.start("the cat", None).id
    assert client.delete(f"/api/jobs/{name}", headers=headers).status_code == status
    assert service.reader.find(name).cancel.is_set() == (status == 200)
    upload = client.post("/api/upload", content=b"x", headers={**BYTES, **headers})
    assert upload.status_code == (403 if status == 403 else 400)


def test_uploads_at_the_same_time_share_the_limit(tmp_path):
    uploads = Uploads(1)

    async def body():
        for _ in range(3):
            yield bytes(1 << 18)
            await asyncio.sleep(0.01)

    async def both():
        return await asyncio.gather(*(uploads.take("x", body()) for _ in range(2)), return_exceptions=True)

    # In a thread of its own, as a browser of other tests keeps a loop running in this one.
    with ThreadPoolExecutor() as alone:
        errors = alone.submit(asyncio.run, both()).result()
    assert sorted(error.status for error in errors) == [400, 413]
    assert list(Path(uploads._folder.name).iterdir()) == []
    uploads.stop()


@pytest.mark.parametrize(
    "body, headers, status, told",
    [
        (b'{"text": "the cat"}', BYTES, 415, "Content-Type"),
        (b'{"text": "the cat"}', {"content-type": "text/plain"}, 415, "Content-Type"),
        (b'{"text": " "}', JSON, 400, "empty"),
        (b'{"text": 3}', JSON, 400, "text"),
        (b"[1]", JSON, 400, "not a JSON object"),
        (b"{", JSON, 400, "not JSON"),
        (b"[" * 100_000, JSON, 400, "not JSON"),
        (b'{"text": "the \\ud800 cat"}', JSON, 400, "surrogate"),
        (b'{"text": "the cat"}', {**JSON, "origin": "http://evil.example"}, 403, "Another site"),
        (b'{"text": "the cat"}', {**JSON, "sec-fetch-site": "cross-site"}, 403, "Another site"),
    ],
)
def test_what_is_not_read(open_service, body, headers, status, told):
    _, client = open_service()
    answer = client.post("/api/read", content=body, headers=headers)
    assert answer.status_code == status and told in answer.json()["error"]


def test_a_text_is_bounded_and_an_unreadable_one_is_told(open_service, monkeypatch):
    _, client = open_service()
    monkeypatch.setattr(routes, "TEXT", 50)
    assert client.post("/api/read", json={"text": "x" * 60}).status_code == 413
    told = wait(client, client.post("/api/read", json={"text": "cat", "pair": "a"}).json()["job"])
    assert told["error"] is None
    reader = Reader("no/such/model", open_model, lambda opened: None)
    assert reader.start("the cat", None)
    reader._thread.shutdown(wait=True)
    assert "no/such/model" in next(iter(reader._jobs.values())).error


def test_uploads(open_service, saved, tmp_path):
    service, client = open_service()
    data = saved.read_bytes()
    assert len(data) < 1 << 20

    def post(name, content):
        return client.post("/api/upload", params={"name": name}, content=content, headers=BYTES)

    answer = post("../../etc/<b>.safetensors", data)
    assert answer.status_code == 200
    (listed,) = client.get("/api/traces").json()["traces"]
    assert listed["id"] == answer.json()["trace"] and listed["title"] == "../../etc/<b>.safetensors"
    assert client.get(f"/api/traces/{listed['id']}/tokens").json()["texts"][5] == "t5"
    folder = service.uploads._folder.name
    for content, status, told in ((data, 413, "larger than 1 MB"), (b"nonsense", 400, "not a valid trace")):
        refused = post("another", content if status == 400 else content * 4)
        assert refused.status_code == status and told in refused.json()["error"]
        assert folder not in refused.json()["error"]
    assert len(list(Path(folder).iterdir())) == 1
    service.stop()
    assert not Path(folder).exists()


def test_old_traces_go_where_many_come(saved, monkeypatch):
    from sightline.view.server import service as services
    from sightline.view.server.catalogue import open_file, open_files

    monkeypatch.setattr(services, "ADDED", 2)
    service = Service(open_files([saved]))
    first = next(iter(service.traces))
    added = [open_file(saved, f"number {at}", identity=f"id{at}") for at in range(4)]
    for each in added:
        service.add(each)
    assert list(service.traces) == [first, "id2", "id3"]
    service.stop()
