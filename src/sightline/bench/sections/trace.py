"""What sightline.trace costs: whole models, traced and untraced, in turn."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from sightline.bench.child import in_child
from sightline.bench.sections.section import CASE, MS, BenchSection, Column
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import Budget, clock, take_turns
from sightline.tracing import trace

#: Depending on where blocks happen to lie, glibc returns memory to the system and takes it again. The page
#: faults of that, in one contender or the other, cost more than what is measured.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}


@dataclass(frozen=True)
class TracedModel:
    """A model of a family with random weights, and how it runs."""

    family: str
    layers: int
    width: int
    length: int
    implementation: str = "sdpa"
    mode: str = "no_grad"

    def __str__(self) -> str:
        return f"{self.family}, {self.layers} layers of {self.width}, (1,{self.length})"


def rows(session: Session) -> Iterator[Row]:
    """Widths and depths, attention implementations, no_grad and inference_mode."""
    if importlib.util.find_spec("transformers") is None:
        session.note("trace", 'not installed: pip install "sightline[app]"')
        return
    for case in _cases(session):
        session.progress(f"{case}, {case.implementation}, {case.mode}")
        budget, threads = session.settings.budget, session.settings.threads
        cost = in_child(trace_cost, _KEEP_MEMORY, case=asdict(case), budget=asdict(budget), threads=threads)
        plain = cost["contenders"]["plain"]
        yield {
            "case": str(case),
            "implementation": case.implementation,
            "mode": case.mode,
            "ms": plain["ms"],
            "spread": plain["spread"],
            **cost,
        }


def _cases(session: Session) -> Iterator[TracedModel]:
    length, width, shallow, deep = session.pick(
        full=(512, 512, 2, 8), quick=(512, 512, 2, 2), tiny=(8, 16, 1, 1)
    )
    small = TracedModel("Llama", shallow, width, length)
    implementations = session.pick(
        full=("sdpa", "eager", "sightline"), quick=("sdpa", "eager"), tiny=("sdpa",)
    )
    for family in ("Llama", "GPT-2"):
        for implementation in implementations:
            for mode in session.pick(
                full=("no_grad", "inference_mode"), quick=("no_grad",), tiny=("no_grad", "inference_mode")
            ):
                yield TracedModel(family, shallow, width, length, implementation, mode)
    if deep > shallow:
        yield TracedModel(small.family, deep, width, length)
        yield TracedModel("BERT", shallow, 768, length)
        yield TracedModel("Llama", shallow, 2048, length)


# --- in a process of its own ---------------------------------------------------------------------------


def trace_cost(case: dict[str, Any], budget: dict[str, Any], threads: int) -> dict[str, Any]:
    """What tracing costs in one case.

    Returns:
        ``calls``, how many attention calls a pass makes; ``streamed`` and ``kept``, the share of time that a
        trace adds which drops or keeps them; ``contenders``, the figures of each.

    Raises:
        RuntimeError: if the traced model computes other numbers, or a call is not verified.
    """
    torch.set_num_threads(threads)
    traced = TracedModel(**case)
    model, step = _model(traced)

    def streamed() -> None:
        with trace(model, on_call=lambda call: None):
            step()

    def kept() -> None:
        with trace(model):
            step()

    contenders: dict[str, Callable[[], object]] = {
        "plain": step, "streamed": streamed, "plain again": step, "kept": kept,
    }  # fmt: skip
    with getattr(torch, traced.mode)():
        calls = _checked_calls(model, step)
        for _ in range(3):
            streamed()
            kept()
        timed = {name: partial(clock, call) for name, call in contenders.items()}
        samples = take_turns(timed, Budget(**budget))
    return {
        "calls": calls,
        "streamed": samples["plain"].over(samples["streamed"]) - 1,
        "kept": samples["plain again"].over(samples["kept"]) - 1,
        "contenders": {name: figures(one, None) for name, one in samples.items()},
    }


def _checked_calls(model: Any, step: Callable[[], torch.Tensor]) -> int:
    """The number of attention calls in a pass, once it is clear that tracing changes nothing."""
    before = step()
    with trace(model) as calls:
        after = step()
    if not torch.equal(before, after):
        raise RuntimeError("the traced model computed other numbers")
    if calls.unverified:
        raise RuntimeError(f"{calls.unverified[0]} was not verified")
    return len(calls)


def _model(case: TracedModel) -> tuple[Any, Callable[[], torch.Tensor]]:
    from sightline.huggingface import register

    register()

    hf: Any = importlib.import_module("transformers")
    hf.logging.set_verbosity_error()
    heads, inner = max(1, case.width // 64), 4 * case.width
    sizes = {"hidden_size": case.width, "num_hidden_layers": case.layers, "num_attention_heads": heads}
    rest = {"vocab_size": 1000, "max_position_embeddings": max(512, case.length)}
    known: dict[str, tuple[Any, Callable[[], Any]]] = {
        "Llama": (hf.LlamaModel, lambda: hf.LlamaConfig(**sizes, **rest, intermediate_size=inner)),
        "GPT-2": (hf.GPT2Model, lambda: hf.GPT2Config(**sizes, **rest)),
        "BERT": (hf.BertModel, lambda: hf.BertConfig(**sizes, **rest, intermediate_size=inner)),
    }
    kind, config = known[case.family]
    torch.manual_seed(0)
    model: Any = kind._from_config(config(), attn_implementation=case.implementation).eval()
    text = torch.randint(5, 900, (1, case.length), generator=torch.Generator().manual_seed(0))
    options = {} if case.family == "BERT" else {"use_cache": False}
    return model, lambda: model(text, **options).last_hidden_state


SECTION = BenchSection(
    name="trace",
    title="Tracing",
    note=(
        "transformers models with random weights under sightline.trace, every call verified; CPU time above "
        "the same pass untraced, by rounds in turn. Streamed: on_call drops each call, so this is what "
        "looking costs; kept: the trace holds all calls. In a process whose allocator keeps its memory."
    ),
    columns=(
        CASE, Column("implementation", "attention", "text"), Column("mode", "mode", "text"),
        Column("calls", "calls", "number"), MS, Column("spread", "± %", "percent"),
        Column("streamed", "streamed", "fine percent"), Column("kept", "kept", "fine percent"),
    ),
    rows=rows,
)  # fmt: skip
