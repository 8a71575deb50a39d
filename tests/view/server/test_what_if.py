"""What the model says when it looks otherwise, by the routes, against ``sightline.intervene``."""

from __future__ import annotations

import re
import time

import pytest
import torch
from starlette.testclient import TestClient

import sightline
from sightline.commands.opening import open_model
from sightline.view.server.app import create_app
from sightline.view.server.reader import Reader
from sightline.view.server.service import Service

TEXT = "the cat sat on the mat"


@pytest.fixture
def served(request):
    """A client of a server whose model has read a text, and the text's trace."""
    services = []

    def make(name, text=TEXT):
        service = Service([])
        service.reader = Reader(name, open_model, service.add)
        services.append(service)
        client = TestClient(create_app(service, None), headers={"origin": "http://testserver"})
        told = wait(client, client.post("/api/read", json={"text": text}).json()["job"])
        return service, client, f"/api/traces/{told['trace']}"

    yield make
    for service in services:
        service.stop()


def wait(client, job, until=60.0):
    end = time.monotonic() + until
    while time.monotonic() < end:
        told = client.get(f"/api/jobs/{job}").json()
        if told["trace"] or told["error"] or told.get("result"):
            return told
        time.sleep(0.01)
    raise AssertionError("the job did not end")


def asked(client, here, changes):
    answer = client.post(f"{here}/what-if", json={"changes": changes})
    assert answer.status_code == 200, answer.text
    return wait(client, answer.json()["job"])


def row_of(client, trace, section, layer, head, query):
    about = client.get(f"/api/traces/{trace}").json()
    call = next(one for one in about["sections"] if one["name"] == section)["layers"][layer]["call"]
    where = f"/api/traces/{trace}/calls/{call}/row?query={query}&head={head}"
    return torch.frombuffer(bytearray(client.get(where).content), dtype=torch.float32)


def slow(changes):
    return pytest.param(changes, marks=pytest.mark.slow)


CHANGES = [
    slow([{"kind": "block", "section": "decoder", "layer": 1, "head": 2, "queries": [4], "keys": [1, 2]}]),
    slow([{"kind": "scale", "section": "decoder", "head": 1, "keys": [0], "by": 0.25}]),
    slow([{"kind": "ablate", "section": "decoder", "layer": 0, "head": 3, "how": "mean"}]),
    [
        {"kind": "ablate", "section": "decoder", "layer": 1, "head": None},
        {"kind": "set", "section": "decoder", "layer": 0, "head": 0, "queries": [5], "keys": [2], "to": 0.75},
    ],
]


def intervened(change, changes):
    for one in changes:
        given = {name: value for name, value in one.items() if name not in ("kind", "section")}
        getattr(change, one["kind"])(**given)


@pytest.mark.parametrize("changes", CHANGES)
def test_it_is_what_intervene_gives(served, model_folder, changes):
    service, client, here = served(str(model_folder("gpt2")))
    told = asked(client, here, changes)
    assert told["error"] is None
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder("gpt2"))
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        plain = model(ids, use_cache=False).logits[0].softmax(-1)
        with sightline.intervene(model) as change, sightline.trace(model) as trace:
            intervened(change, changes)
            logits = model(ids, use_cache=False).logits[0].softmax(-1)
    for found, expected in ((told["result"]["before"], plain), (told["result"]["after"], logits)):
        assert found["about"] == "next word" and found["places"] == list(range(len(ids[0])))
        best = expected.max(-1)
        shares = [each[0][1] for each in found["candidates"]]
        torch.testing.assert_close(torch.tensor(shares), best.values, atol=1e-5, rtol=0)
        words = [each[0][0].strip() for each in found["candidates"]]
        assert words == [tokenizer.convert_ids_to_tokens(int(at)) for at in best.indices]
    row = row_of(client, told["result"]["trace"], "decoder", 0, 0, 5)
    torch.testing.assert_close(row[:6], trace[0].matrix[0, 0, 5, :6], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_target_is_read_again_and_another_is_written(served, model_folder):
    service, client, here = served(str(model_folder("t5")))
    source = {"kind": "block", "section": ["encoder", "cross"], "keys": [1]}
    told = asked(client, here, [source])["result"]
    cross = row_of(client, told["trace"], "cross", 1, 0, 0)
    assert cross[1].isnan() and cross.nansum() == pytest.approx(1, abs=1e-5)
    assert told["before"]["text"] is not None and told["after"]["text"] is not None
    before, after = client.get(here).json(), client.get(f"/api/traces/{told['trace']}").json()
    assert [section["queries"] for section in after["sections"]] == [s["queries"] for s in before["sections"]]
    assert any("what if" in notice for notice in after["notices"])


def test_labels_of_a_task(served):
    service, client, here = served("sentiment", "A warm and funny film.")
    told = asked(client, here, [{"kind": "ablate", "section": "encoder", "layer": 0}])["result"]
    assert told["before"]["about"] == "label" and told["before"]["places"] == []
    for side in ("before", "after"):
        ((first, second),) = told[side]["candidates"]
        assert first[1] + second[1] == pytest.approx(1)
    assert told["before"]["candidates"] != told["after"]["candidates"]


def test_only_the_last_changes_of_a_trace_are_kept(served):
    service, client, here = served("sentiment", "A warm and funny film.")
    made = [
        asked(client, here, [{"kind": "block", "section": None, "keys": [at]}])["result"] for at in range(5)
    ]
    kept = [trace["id"] for trace in client.get("/api/traces").json()["traces"]]
    assert kept == [here.rsplit("/", 1)[1], *(told["trace"] for told in made[-3:])]
    refused = client.post(f"/api/traces/{kept[-1]}/what-if", json={"changes": []})
    assert refused.status_code == 409 and "change itself" in refused.json()["error"]


def test_which_head_mattered(served):
    service, client, here = served("sentiment", "A warm and funny film.")
    told = wait(client, client.post(f"{here}/effects", json={}).json()["job"])
    pipeline = sightline.pipeline("sentiment")
    expected = sightline.effects(pipeline, "A warm and funny film.", progress=False)
    assert told["error"] is None and told["share"] == 1
    assert told["result"]["about"] == expected.about
    assert told["result"]["baseline"] == pytest.approx(expected.baseline)
    found = torch.tensor(told["result"]["sections"]["encoder"], dtype=torch.float64)
    torch.testing.assert_close(found, expected.values, atol=1e-6, rtol=0)


def test_effects_are_stopped(served, monkeypatch):
    service, client, here = served("sentiment", "A warm and funny film.")
    from sightline.view.server import reader

    def slow(opened, base, progress):
        while True:
            progress(0, 1)
            time.sleep(0.01)

    monkeypatch.setattr(reader, "effects_of_heads", slow)
    job = client.post(f"{here}/effects", json={}).json()["job"]
    assert client.delete(f"/api/jobs/{job}").status_code == 200
    assert wait(client, job)["error"] == "The reading was stopped."


WRONG = {
    "changes: must be a list of 1 to 64": None,
    r"changes\[0\]: must be an object whose kind is one of block, scale, set, ablate": [{"kind": "cut"}],
    r"changes\[0\].by: block knows no such field": [{"kind": "block", "by": 2}],
    r"changes\[0\].section: there is no 'cross'; there are encoder": [{"kind": "block", "section": "cross"}],
    r"changes\[0\].layer: must be null or an integer from 0 to 1, got 2": [{"kind": "ablate", "layer": 2}],
    r"changes\[1\].head: must be null or an integer from 0 to 3, got -1": [
        {"kind": "ablate"},
        {"kind": "ablate", "head": -1},
    ],
    r"changes\[0\].queries: must be null or a list": [{"kind": "block", "queries": 3}],
    r"changes\[0\].keys: must be null or a list of integers from 0 to": [{"kind": "block", "keys": [99]}],
    r"changes\[0\].keys: must be null": [{"kind": "block", "keys": []}],
    r"changes\[0\].by: must be a number from 0": [{"kind": "scale", "by": -1}],
    r"changes\[0\].to: must be a number from 0 to 1, got": [{"kind": "set", "keys": [1], "to": "much"}],
    r"changes\[0\].how: must be one of zero, mean, uniform": [{"kind": "ablate", "how": "noise"}],
}


def test_what_is_refused(served):
    service, client, here = served("sentiment", "A warm and funny film.")
    for message, changes in WRONG.items():
        answer = client.post(f"{here}/what-if", json={"changes": changes})
        assert answer.status_code == 400, message
        assert re.search(message, answer.json()["error"]), (message, answer.json())
    assert client.post("/api/traces/none/what-if", json={"changes": []}).status_code == 404
    assert client.post(f"{here}/what-if", content=b"{}").status_code == 415


def test_a_trace_without_its_model_cannot_be_asked(client, here):
    answer = client.post(f"{here}/what-if", json={"changes": []}, headers={"origin": "http://127.0.0.1:8417"})
    assert answer.status_code == 409 and "the model of this trace is not here" in answer.json()["error"]
    told = client.get("/api/traces").json()
    assert told["traces"][0]["id"] in here
