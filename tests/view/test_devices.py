"""Where models run: the word, and whole programs on a GPU that is pretended (``pretend_gpu.py``)."""

from __future__ import annotations

import dataclasses
import json
from unittest import mock

import pytest
import torch

import sightline
from pretend_gpu import CUDA, OnGpu, pretend_gpu
from sightline.common.devices import DeviceError, device_named, device_of, out_of_memory, placed

pytest.importorskip("typer", reason="the command line needs the [app] extra")

SLOW = pytest.mark.slow
CPU = torch.device("cpu")
TEXTS = {
    "sentiment": "A warm and funny film.",
    "translation": "The cat sat on the mat.",
    "generation": "To be, or not",
}


# --- the word ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, capability, device",
    [
        ("auto", None, CPU),
        ("auto", (9, 0), CUDA),
        ("auto", (8, 0), CUDA),
        ("cpu", (9, 0), CPU),
        ("cuda", (9, 0), CUDA),
        ("cuda:0", (12, 0), CUDA),
        (torch.device("cpu"), (9, 0), CPU),
        (torch.device("cuda"), (9, 0), CUDA),
    ],
)
def test_a_word_means_a_device(word, capability, device):
    if capability is None:
        with mock.patch.object(torch.cuda, "is_available", return_value=False):
            assert device_named(word) == device
        return
    with pretend_gpu(capability):
        assert device_named(word) == device


@pytest.mark.parametrize("word", ["gpu", "", "cuda:x", "cpu:1x", "auto:0", "mps:0", "CUDA", 3, None])
def test_an_unknown_word(word):
    with (
        pretend_gpu(),
        pytest.raises(DeviceError, match=r"device .*: there is no such one; known are auto, cpu"),
    ):
        device_named(word)


def test_no_cuda():
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        with (
            mock.patch.object(torch.version, "cuda", None),
            pytest.raises(
                DeviceError, match=r"device 'cuda': PyTorch .* was built without CUDA; install one"
            ),
        ):
            device_named("cuda")
        with (
            mock.patch.object(torch.version, "cuda", "13.0"),
            pytest.raises(DeviceError, match=r"finds no card and driver for CUDA 13.0; nvidia-smi tells, or"),
        ):
            device_named("cuda")


def test_no_such_card():
    with (
        pretend_gpu(),
        pytest.raises(DeviceError, match="device 'cuda:3': this machine has 1, counted from cuda:0"),
    ):
        device_named("cuda:3")


@pytest.mark.parametrize("capability", [(6, 1), (7, 5), (10, 0), (13, 1)])
def test_a_card_that_pytorch_has_no_code_for(capability):
    """Older, newer, or of a generation that was left out."""
    number = "{}.{}".format(*capability)
    told = f"pretended is of compute capability {number}, and PyTorch .* was built for 8.0, 9.0, 12.0"
    with pretend_gpu(capability):
        with pytest.raises(DeviceError, match=f"device 'cuda': {told}; take cpu, or another PyTorch"):
            device_named("cuda")
        with pytest.warns(UserWarning, match=f"the CPU computes: {told}"):
            assert device_named("auto") == CPU


@pytest.mark.parametrize(
    "built, capability, usable",
    [
        (["sm_80"], (8, 9), True),
        (["sm_86"], (8, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_80", "compute_80"], (12, 0), True),
        (["sm_80", "compute_80"], (7, 0), False),
        (["gfx942"], (9, 4), True),  # AMD's have other names
        ([], (9, 0), True),
    ],
)
def test_what_pytorch_has_code_for(monkeypatch, built, capability, usable):
    with pretend_gpu(capability):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
        if usable:
            assert device_named("cuda") == CUDA
            return
        with pytest.raises(DeviceError, match="was built for"):
            device_named("cuda")


def test_no_mps():
    with (
        mock.patch.object(torch.backends.mps, "is_available", return_value=False),
        pytest.raises(DeviceError, match="device 'mps': this machine, or its PyTorch, has no MPS; take cpu"),
    ):
        device_named("mps")


def test_a_full_memory_says_what_to_lower(sightline_command, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
    told = out_of_memory(error)
    assert "CUDA out of memory" in told and "--max-tokens" in told and "\n" not in told
    assert out_of_memory(RuntimeError("else")) is None
    monkeypatch.setattr("sightline.tasks.pipelines.Pipeline.stream", mock.Mock(side_effect=error))
    ran = sightline_command("run", "sentiment", "A film.")
    assert ran.code == 1 and ran.err.startswith(
        "sightline: the GPU's memory is full (CUDA out of memory): give less"
    )


def test_weights_that_do_not_fit():
    layer = torch.nn.Linear(4, 4)
    with (
        mock.patch.object(torch.nn.Linear, "to", mock.Mock(side_effect=torch.OutOfMemoryError("CUDA"))),
        pytest.raises(
            DeviceError, match="device 'cuda:0': its memory is full: the weights take 0.0 GB. Take cpu"
        ),
    ):
        placed(layer, CUDA)


@pytest.mark.parametrize("command", ["look", "run", "lens", "effects", "profile", "serve", "train"])
def test_every_command_says_what_is_wrong_with_a_device(sightline_command, command, tmp_path):
    arguments = {
        "look": ["A film."],
        "lens": ["A film."],
        "run": ["sentiment", "A film."],
        "effects": ["sentiment", "A film."],
        "profile": ["default", tmp_path / "corpus.txt", "-o", tmp_path / "heads.csv"],
        "serve": ["--model", "sentiment", "--port", "0", "--no-open", "--text", "A film."],
        "train": ["sentiment", "--data", tmp_path / "corpus.txt", "--out", tmp_path / "out"],
    }[command]
    (tmp_path / "corpus.txt").write_text("the cat sat\n")
    ran = sightline_command(command, *arguments, "--device", "gpu")
    assert ran.code == 1
    assert (
        ran.err
        == "sightline: device 'gpu': there is no such one; known are auto, cpu, cuda, cuda:1 and mps\n"
    )


# --- the pretended GPU itself -----------------------------------------------------------------------------


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretend_gpu():
        there, here = torch.ones(3, device=CUDA), torch.ones(3)
        assert isinstance(there, OnGpu) and there.device == CUDA and (there + there).device == CUDA
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            there + here
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            there.numpy()
        assert (there.cpu() + here).tolist() == [2, 2, 2]
        weight = torch.ones(3, device=CUDA, requires_grad=True)
        (weight * there).sum().backward()
        assert weight.grad.device == CUDA


# --- programs ---------------------------------------------------------------------------------------------


def test_attention_and_what_is_read_off_it():
    case = [torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    lengths = torch.tensor([9, 5])
    mask = sightline.causal() & sightline.lengths(lengths)
    with sightline.backend("chunked"):
        context, here = sightline.attention(*case, mask=mask, return_matrix=True)
    with pretend_gpu():
        given = [one.to(CUDA).requires_grad_() for one in case]
        with pytest.raises(ValueError, match=r"lengths: on cpu, but the query is on cuda:0. Move it with"):
            sightline.attention(*given, mask=mask)
        mask = sightline.causal() & sightline.lengths(lengths.to(CUDA))
        found, there = sightline.attention(*given, mask=mask, return_matrix=True)
        found.sum().backward()
        assert found.device == there.device == given[0].grad.device == CUDA
        assert torch.equal(found.detach().cpu(), context)
        for name in ("entropy", "received", "max_score", "distance"):
            torch.testing.assert_close(getattr(there, name)().cpu(), getattr(here, name)())
        assert torch.equal(there.topk(3).indices.cpu(), here.topk(3).indices)
        torch.testing.assert_close(there.pool(3, 3).cpu(), here.pool(3, 3), equal_nan=True)
        plan = sightline.explain(*given, mask=mask)
        assert plan.forward.backend == "chunked" and "CUDA kernels" in plan.reasons[0]


@pytest.mark.parametrize(
    "task", ["sentiment", pytest.param("translation", marks=SLOW), pytest.param("generation", marks=SLOW)]
)
def test_a_task_answers_as_on_the_cpu(task):
    few = {} if task == "sentiment" else {"new_tokens": 5}
    with sightline.backend("chunked"):
        answer = sightline.pipeline(task)(TEXTS[task], **few)
    with pretend_gpu():
        pipe = sightline.pipeline(task)
        assert pipe.device == pipe.model.device == CUDA
        assert rounded(pipe(TEXTS[task], **few)) == rounded(answer)
        asked = pipe.question(TEXTS[task], **({"target": "Die Katze"} if task == "translation" else {}))
        of = "tokens" if task == "generation" else "heads"
        assert sightline.effects(asked.model, asked.inputs, asked.metric, of).values.isfinite().all()


def rounded(answer):
    return json.loads(json.dumps(answer), parse_float=lambda text: round(float(text), 4))


@pytest.mark.parametrize("kind", ["bert", pytest.param("gpt2", marks=SLOW), pytest.param("t5", marks=SLOW)])
def test_look_writes_the_same_as_on_the_cpu(sightline_command, model_folder, kind, tmp_path):
    command = ["look", "the cat sat on the mat", "--model", model_folder(kind), "--html", tmp_path / "a.html"]
    here = sightline_command(*command, "--device", "cpu")
    with pretend_gpu():
        there = sightline_command(*command)
    assert there.code == here.code == 0, there.err
    assert there.out == here.out


@SLOW
def test_profile_measures_the_same(model_folder, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat\na dog\nthe cat sat\n")
    with sightline.backend("chunked"):
        here = sightline.profile(str(model_folder("bert")), corpus, batch=2)
    with pretend_gpu():
        there = sightline.profile(str(model_folder("bert")), corpus, batch=2)
    for one, other in zip(here.rows, there.rows, strict=True):
        assert one.mean == pytest.approx(other.mean, rel=1e-4, abs=1e-5, nan_ok=True), one


def test_training_goes_on_where_it_stopped(tmp_path):
    from sightline.tasks.fitting import fit
    from sightline.tasks.registry import find_task
    from sightline.tasks.task import Source
    from sightline.tasks.training import Silent

    table = tmp_path / "data.csv"
    lines = [
        f"a {word} film {i},{label}" for i in range(12) for word, label in (("good", "pos"), ("bad", "neg"))
    ]
    table.write_text("text,label\n" + "\n".join(lines))
    recipe = dataclasses.replace(
        find_task("sentiment").recipe, epochs=2, width=16, layers=1, heads=2, batch=8, vocabulary=60,
        average=0.9, precision="float32",
    )  # fmt: skip

    class Stops(Silent):
        def epoch(self, *_):
            raise KeyboardInterrupt

    with pretend_gpu():
        out = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            fit("sentiment", Source(table), out, recipe, Stops(), device=CUDA)
        figures = fit("sentiment", Source(table), out, recipe, device=CUDA)
    assert 0 <= figures["validation"]["accuracy"] <= 1
    assert sightline.pipeline("sentiment", out, device="cpu")("a good film")[0]["label"] in ("pos", "neg")


def test_where_inputs_belong():
    layer = torch.nn.Linear(2, 2)
    assert device_of(layer) == CPU and device_of(torch.nn.Identity()) == CPU
    with pretend_gpu():
        there = placed(layer, CUDA)
        assert device_of(there) == CUDA
        assert there(torch.ones(1, 2)).device == CUDA
