"""Whole models with random weights: attn_implementation "eager", "sdpa" and "sightline" side by side."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sightline.bench.host import describe
from sightline.bench.machine import available_gigabytes
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import OURS, Row, Session, figures
from sightline.bench.timing import Spent, clock, take_turns

IMPLEMENTATIONS = ("eager", "sdpa", OURS)
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class ModelCase:
    """A model and what it computes.

    Attributes:
        title, dtype: for the table.
        model: of Transformers.
        step: one pass; what it returns is compared.
        after: undoes what a pass left behind; not timed.
        eager_gigabytes: what eager attention needs, where that is much.
    """

    title: str
    dtype: str
    model: Any
    step: Callable[[], Tensor]
    after: Callable[[], None] = lambda: None
    eager_gigabytes: float = 0.0


def rows(session: Session) -> Iterator[Row]:
    """A BERT-base-sized encoder, a ModernBERT-like one with local attention, a Llama-like decode step."""
    if importlib.util.find_spec("transformers") is None:
        session.note("endtoend", 'not installed: pip install "sightline[app]"')
        return
    from sightline.huggingface import register

    register()

    torch.set_num_threads(session.settings.threads)
    for cases in (_bert, _modernbert, _llama):
        for case in cases(session):
            yield _measured(session, case)


def _measured(session: Session, case: ModelCase) -> Row:
    contenders: dict[str, dict[str, Any]] = {}
    timed: dict[str, Callable[[int], Spent]] = {}
    reference: Tensor | None = None
    for name in ("sdpa", "eager", OURS):
        session.progress(f"{case.title}: checking {name}")
        if name == "eager" and case.eager_gigabytes > available_gigabytes() / 3:
            contenders[name] = {"status": "left out", "why": f"needs {case.eager_gigabytes:.0f} GB"}
            session.note("eager", f"not enough memory for {case.title}")
            continue
        try:
            output = _pass(case, name)
        except Exception as error:
            contenders[name] = {"status": "failed", "why": describe(error)}
            session.note(name, f"failed on {case.title}: {describe(error)}")
            continue
        reference = output if reference is None else reference
        contenders[name] = _judged(case, output, reference)
        if contenders[name]["status"] == "ok":
            timed[name] = _timed(case, name)
        else:
            session.note(name, f"wrong on {case.title}: {contenders[name]['why']}")
    session.progress(f"{case.title}: measuring {', '.join(timed)}")
    samples = take_turns(timed, session.settings.budget, session.wall)
    row: Row = {"case": case.title, "dtype": case.dtype, "contenders": contenders}
    for name, one in samples.items():
        contenders[name] |= figures(one, samples.get(OURS))
        row[f"{name}_ms"] = one.median * 1e3
        row[f"x_{name}"] = contenders[name].get("ratio")
    return row


def _judged(case: ModelCase, output: Tensor, reference: Tensor) -> dict[str, Any]:
    apart = float((output - reference).norm() / reference.norm())
    if apart <= _TOLERANCE[case.dtype]:
        return {"status": "ok", "apart": apart}
    return {"status": "wrong", "why": f"off by {apart:.2g} of sdpa's norm"}


def _pass(case: ModelCase, name: str) -> Tensor:
    case.model.set_attn_implementation(name)
    with torch.no_grad():
        output = case.step().float()
    case.after()
    return output


def _timed(case: ModelCase, name: str) -> Callable[[int], Spent]:
    def time(number: int) -> Spent:
        case.model.set_attn_implementation(name)
        with torch.no_grad():
            spent = clock(case.step, 1)
        case.after()
        return spent

    return time


def _bert(session: Session) -> Iterator[ModelCase]:
    from transformers import BertConfig, BertModel

    sizes = session.pick(
        full={}, quick={"num_hidden_layers": 2},
        tiny={"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32},
    )  # fmt: skip
    config = BertConfig(**sizes)
    model = _random(BertModel, config)
    name = f"BERT, {config.num_hidden_layers} layers of {config.hidden_size}"
    batch, short, long = session.pick(full=(8, 128, 512), quick=(4, 128, 512), tiny=(2, 8, 16))
    yield ModelCase(f"{name}, ({batch},{short})", "float32", model, _encode(model, batch, short))
    yield ModelCase(
        f"{name}, ({batch},{short}) half padded", "float32", model, _encode(model, batch, short, padded=True)
    )
    yield ModelCase(f"{name}, (1,{long})", "float32", model, _encode(model, 1, long))


def _modernbert(session: Session) -> Iterator[ModelCase]:
    from transformers import ModernBertConfig, ModernBertModel

    tiny = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "local_attention": 8}
    config = ModernBertConfig(num_hidden_layers=3, **session.pick(full={}, quick={}, tiny=tiny))
    model = _random(ModernBertModel, config)
    length = session.pick(full=8192, quick=2048, tiny=32)
    title = (
        f"ModernBERT, 3 layers of {config.hidden_size} (1 global, 2 with window {config.local_attention}), "
        f"(1,{length})"
    )
    # Scores, masked scores and their softmax: three matrices.
    gigabytes = 3 * 4 * config.num_attention_heads * length**2 / 2**30
    yield ModelCase(title, "float32", model, _encode(model, 1, length), eager_gigabytes=gigabytes)


def _llama(session: Session) -> Iterator[ModelCase]:
    from transformers import DynamicCache, LlamaConfig, LlamaModel

    sizes = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    tiny = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    layers, filled = session.pick(full=(16, 4096), quick=(4, 4096), tiny=(1, 16))
    # The embedding is a quarter of a 1B model, and a step reads a single row of it: a small one will do.
    config = LlamaConfig(
        num_hidden_layers=layers, vocab_size=1000, max_position_embeddings=131072,
        **session.pick(full=sizes, quick=sizes, tiny=tiny),
    )  # fmt: skip
    model = _random(LlamaModel, config, torch.bfloat16)
    cache = DynamicCache(config=config)
    generator = torch.Generator().manual_seed(1)
    groups, width = config.num_key_value_heads or 1, config.hidden_size // config.num_attention_heads
    for layer in range(layers):
        key, value = (torch.randn(1, groups, filled, width, generator=generator).bfloat16() for _ in "kv")
        cache.update(key, value, layer)
    token = torch.tensor([[5]])

    def step() -> Tensor:
        hidden: Tensor = model(token, past_key_values=cache, use_cache=True).last_hidden_state
        return hidden

    title = f"Llama 1B decode step, {layers} layers, cache of {filled}"
    yield ModelCase(title, "bfloat16", model, step, after=lambda: cache.crop(-1))


def _random(kind: Any, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A model with random weights, made in its dtype, so that it is never in memory twice."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return kind(config).eval()
    finally:
        torch.set_default_dtype(before)


def _encode(model: Any, batch: int, length: int, padded: bool = False) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(5, 900, (batch, length), generator=generator)
    mask = torch.ones_like(text)
    if padded:
        for entry in range(batch):
            mask[entry, round(length * (entry + 0.5) / batch) :] = 0
    real = mask.bool()

    def step() -> Tensor:
        hidden: Tensor = model(text, attention_mask=mask).last_hidden_state
        return hidden[real]

    return step


SECTION = BenchSection(
    name="endtoend",
    title="End to end",
    note=(
        "transformers models with random weights; only the attention implementation changes, by "
        "name. × means times as long as Sightline. Half padded: from nearly none to all."
    ),
    columns=(
        CASE, DTYPE, Column("eager_ms", "eager ms", "ms"), Column("sdpa_ms", "sdpa ms", "ms"),
        Column("sightline_ms", "sightline ms", "ms"), Column("x_eager", "× eager", "ratio"),
        Column("x_sdpa", "× sdpa", "ratio"),
    ),
    rows=rows,
)  # fmt: skip
