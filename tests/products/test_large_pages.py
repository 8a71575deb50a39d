"""Weights in large pages: values and addresses stay, and what a system refuses is said, not raised."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

import sightline
from sightline.core import library
from sightline.products import LargePages, large_pages, move_to_large_pages, native, onednn

PAGE = 2 << 20


@pytest.fixture
def asked(monkeypatch):
    """The addresses that the system is asked for, by a stand-in that gives whatever ``answer`` says."""
    pages: list[int] = []
    monkeypatch.setattr(large_pages, "why_not", lambda: None)
    monkeypatch.setattr(large_pages, "large_page_bytes", lambda: PAGE)
    monkeypatch.setattr(large_pages, "_advise", lambda page, size: pages.append(page) or 0)
    return pages


def large_bytes_at(tensor: torch.Tensor) -> int:
    """What /proc says of the mapping that a tensor begins in."""
    here = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if found:
            here = int(found[1], 16) <= tensor.data_ptr() < int(found[2], 16)
        elif here and line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("not mapped")


def test_values_and_addresses_stay_and_the_pages_are_large():
    if large_pages.why_not() is not None:
        pytest.skip(f"large pages: {large_pages.why_not()}")
    weights = [torch.randn(3000, 1000), torch.randn(4000, 2000).bfloat16()]
    before = [(one.clone(), one.data_ptr()) for one in weights]
    moved = move_to_large_pages(weights)
    for one, (values, address) in zip(weights, before, strict=True):
        assert torch.equal(one, values) and one.data_ptr() == address
    assert moved.of >= 24e6 and moved.bytes <= moved.of
    if not moved.bytes:
        pytest.skip(f"this system gave none: {moved.why}")
    if moved.why == "":
        assert large_bytes_at(weights[0]) >= 10e6
    assert move_to_large_pages(weights).bytes >= moved.bytes  # those that are large count


def test_pages_that_are_filled_by_a_quarter():
    filled = large_pages._filled
    assert filled([(0, PAGE)], PAGE) == [0]
    assert filled([(PAGE // 2, PAGE // 2 + PAGE)], PAGE) == [0, PAGE]
    assert filled([(0, PAGE // 5)], PAGE) == []
    assert filled([(0, PAGE // 5), (PAGE // 5, PAGE // 2)], PAGE) == [0]  # neighbours count together
    assert filled([(PAGE - 8, 3 * PAGE + 8)], PAGE) == [PAGE, 2 * PAGE]
    assert filled([(0, 0)], PAGE) == []


def test_memory_is_asked_for_once(asked):
    weight = torch.zeros(4 * PAGE // 4)
    move_to_large_pages([weight, weight, weight[10:], weight.view(-1, 2).t()])
    assert len(asked) == len(set(asked)) and 4 <= len(asked) <= 5
    assert all(page % PAGE == 0 for page in asked)


def test_tensors_whose_memory_is_elsewhere_are_left_out(asked):
    class Marked(torch.Tensor):
        pass

    with FakeTensorMode():
        fake = torch.empty(PAGE)
    odd = [
        fake, torch.empty(PAGE, device="meta"), torch.eye(3).to_sparse(), torch.empty(0),
        torch.zeros(PAGE).as_subclass(Marked), torch.zeros(2000, 2000).to_mkldnn(),
    ]  # fmt: skip
    assert move_to_large_pages(odd) == LargePages(0, 0, "") and not asked


@pytest.mark.parametrize(
    "platform, setting, words",
    [("darwin", "madvise", "only Linux"), ("linux", "never", "switched off"), ("linux", "always", "")],
)
def test_what_a_system_does_not_give_is_said(asked, monkeypatch, platform, setting, words):
    monkeypatch.undo()
    monkeypatch.setattr(large_pages, "_advise", lambda page, size: asked.append(page) or 0)
    monkeypatch.setattr(large_pages, "large_page_bytes", lambda: PAGE)
    monkeypatch.setattr(large_pages, "setting", lambda: setting)
    monkeypatch.setattr(large_pages.sys, "platform", platform)
    moved = move_to_large_pages([torch.zeros(PAGE)])
    assert moved.of >= 4 * PAGE - PAGE
    assert words in moved.why and bool(moved.why) == bool(words)
    assert (moved.bytes, asked) == (0, []) if words else moved.bytes == moved.of
    assert str(moved).startswith("0 of " if words else f"{moved.bytes / 1e6:.0f} of ")


def test_a_system_without_them(asked, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(large_pages, "_SETTINGS", tmp_path)
    monkeypatch.setattr(large_pages, "large_page_bytes", large_pages.large_page_bytes.__wrapped__)
    monkeypatch.setattr(large_pages.sys, "platform", "linux")
    assert large_pages.setting() == ""
    assert "this Linux has none" in move_to_large_pages([torch.zeros(PAGE)]).why


def test_pages_that_no_weight_would_fill(asked, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(large_pages, "_advise", lambda page, size: asked.append(page) or 0)
    monkeypatch.setattr(large_pages, "large_page_bytes", lambda: 8 << 20)
    monkeypatch.setattr(large_pages.sys, "platform", "linux")
    moved = move_to_large_pages([torch.zeros(8 * PAGE)])
    assert moved.of and not moved.bytes and not asked and "8 MB here" in moved.why


@pytest.mark.parametrize(
    "error, first, most, words",
    [
        (errno.ENOMEM, 0, 8, "no room in one piece"),
        (errno.EAGAIN, 2, 10, "no room in one piece"),
        (errno.EINVAL, 0, 40, "older than 6.1"),
        (errno.EINVAL, 2, 40, "where memory ends"),
        (errno.EPERM, 0, 40, "Operation not permitted"),
    ],
)
def test_refusals(asked, monkeypatch, error, first, most, words):
    monkeypatch.setattr(
        large_pages, "_advise", lambda page, size: asked.append(page) or (error if len(asked) > first else 0)
    )
    moved = move_to_large_pages([torch.zeros(20 * PAGE // 4)])
    assert moved.bytes == first * PAGE and words in moved.why and words in str(moved)
    assert first < len(asked) <= most  # without room, no more is asked for


def test_a_file_that_is_mapped_stays_what_it_is(tmp_path):
    path = tmp_path / "weights.bin"
    torch.arange(4 * PAGE // 4, dtype=torch.float32).numpy().tofile(path)
    mapped = torch.from_file(str(path), shared=False, size=4 * PAGE // 4, dtype=torch.float32)
    move_to_large_pages([mapped])
    assert torch.equal(mapped, torch.arange(4 * PAGE // 4, dtype=torch.float32))
    assert path.stat().st_size == 4 * PAGE


def big() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 1024))


def test_accelerated_models_are_moved(asked):
    model = big()
    acceleration = sightline.accelerate(model)
    assert len(asked) * PAGE == acceleration.large_pages.of == acceleration.large_pages.bytes
    assert f"large pages: {acceleration.large_pages}" in str(acceleration)
    for layer in model[0], model[2]:
        middle = layer.weight.data_ptr() + 2 * layer.weight.numel()
        assert middle // PAGE * PAGE in asked
    asked.clear()
    assert sightline.accelerate(big(), large_pages=False).large_pages == LargePages()
    small = sightline.accelerate(nn.Linear(8, 8))
    assert not asked and "large pages" not in str(small)
    with pytest.raises(TypeError, match="large_pages: "):
        sightline.accelerate(model, large_pages="yes")


def test_an_interruption_leaves_the_model_as_it_was(monkeypatch, asked):
    def interrupted(page, size):
        raise KeyboardInterrupt

    monkeypatch.setattr(large_pages, "_advise", interrupted)
    model = big()
    with pytest.raises(KeyboardInterrupt):
        sightline.accelerate(model)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("door", [native, onednn])
def test_packed_weights_lie_in_large_pages(asked, door):
    dtype = torch.float32 if door is native else torch.bfloat16
    if door is native and library.available() is not None:
        pytest.skip("the native core was not built")
    if door is onednn and onednn.why_not_packed(dtype) is not None:
        pytest.skip("oneDNN packs no halves here")
    door.pack(torch.randn(2048, 2048).to(dtype))
    assert len(asked) >= 4


def test_info_says_what_there_is():
    said = sightline.info()["large pages"]
    assert said == large_pages.why_not() or re.fullmatch(r"\d+ MB; \w+", said)
