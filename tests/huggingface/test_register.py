"""Registration: both functions, again and again, and clear errors where it cannot work."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ENCODERS, TEXT, assert_equal, padding, pair, tokens
from transformers import BertConfig, BertModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

import sightline.huggingface
from sightline.huggingface.requirement import check_transformers, missing_feature


def test_both_functions_are_registered() -> None:
    for _ in range(2):
        sightline.huggingface.register()
        assert ALL_ATTENTION_FUNCTIONS["sightline"] is sightline.huggingface.sightline_attention
        assert ALL_MASK_ATTENTION_FUNCTIONS["sightline"] is sightline.huggingface.sightline_mask


def test_the_trap_that_the_mask_function_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the attention alone, Transformers drops the mask without a word and padding changes the text."""
    text, mask = torch.cat((tokens(1, 6), tokens(1, 4)), 1), padding("right", 10, (6,))
    model, eager = pair(ENCODERS["bert"])
    with torch.no_grad():
        alone = eager(text[:, :6])[0]
        assert_equal(model(text, attention_mask=mask)[0][:, :6], alone)

        monkeypatch.setitem(
            AttentionInterface._global_mapping, "half", sightline.huggingface.sightline_attention
        )
        model.set_attn_implementation("half")
        assert (model(text, attention_mask=mask)[0][:, :6] - alone).abs().max() > 0.1


def test_a_register_that_does_not_take_both_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.huggingface import registry as module

    monkeypatch.setattr(module.AttentionMaskInterface, "register", lambda *_: None)
    with pytest.raises(RuntimeError, match=r"'half'.*padding would be looked at"):
        module.register("half")
    AttentionInterface._global_mapping.pop("half")


def test_every_way_to_ask_for_it(tmp_path: Path) -> None:
    config = BertConfig(**TEXT)
    model = BertModel(config)
    model.save_pretrained(tmp_path)
    model.set_attn_implementation("sightline")
    loaded = BertModel.from_pretrained(tmp_path, attn_implementation="sightline")
    made = BertModel._from_config(config, attn_implementation="sightline")
    for each in (model, loaded, made):
        assert each.config._attn_implementation == "sightline"
    with torch.no_grad():
        assert_equal(loaded.eval()(tokens(1, 5))[0], model.eval()(tokens(1, 5))[0])


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr


def test_missing_transformers_says_what_to_install() -> None:
    stderr = run("import sys; sys.modules['transformers'] = None; import sightline.huggingface")
    assert (
        'ModuleNotFoundError: sightline.huggingface needs transformers. Install it with: pip install "sightline[app]"'
        in stderr
    )


def test_it_is_loaded_when_it_is_first_asked_for() -> None:
    stderr = run(
        "import sys, sightline; assert 'transformers' not in sys.modules; "
        "assert sightline.huggingface.accelerate is sightline.accelerate; assert 'huggingface' in dir(sightline); "
        "raise SystemExit('done')"
    )
    assert stderr.splitlines()[-1] == "done"


def test_without_transformers_everything_else_can_still_be_listed() -> None:
    stderr = run(
        "import sys, inspect, sightline; sys.modules['transformers'] = None; "
        "assert 'nn' in dict(inspect.getmembers(sightline)); sightline.huggingface"
    )
    assert 'pip install "sightline[app]"' in stderr


def test_old_transformers_says_what_it_found_and_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr(transformers, "__version__", "4.40.0")
    monkeypatch.delattr(transformers.masking_utils, "AttentionMaskInterface")
    with pytest.raises(
        ImportError,
        match=r"needs transformers 5\.23 or newer, found 4\.40\.0.*AttentionMaskInterface.*--upgrade",
    ):
        check_transformers()


@pytest.mark.parametrize(
    ("modeling", "masking", "missing"),
    [
        ({}, {}, "transformers.AttentionInterface"),
        ({"AttentionInterface": 0}, {}, "transformers.masking_utils.AttentionMaskInterface"),
        (
            {"AttentionInterface": 0},
            {"AttentionMaskInterface": 0, "sdpa_mask": lambda cache_position: None},
            "mask functions that take q_offset",
        ),
    ],
)
def test_what_is_missing(modeling: dict[str, Any], masking: dict[str, Any], missing: str) -> None:
    modules = []
    for content in (modeling, masking):
        module = types.ModuleType("stand_in")
        vars(module).update(content)
        modules.append(module)
    assert missing_feature(*modules) == missing
    assert missing_feature(None, None) == "transformers.AttentionInterface"
