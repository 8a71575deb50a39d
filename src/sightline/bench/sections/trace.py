"""What sightline.trace costs: whole models, traced and not, in turn."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from sightline.bench.sections.section import CASE, MS, Column, Section
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import Budget, clock, take_turns
from sightline.tracing import trace as tracing

#: glibc gives memory back and takes it again as blocks happen to lie: page faults, in one contender or the
#: other, that cost more than what is measured.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
_CHILD = "from sightline.bench.sections.trace import measure_in_child; measure_in_child()"


@dataclass(frozen=True)
class Traced:
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
        found = _in_child(case, session.settings.threads, session.settings.budget)
        yield {
            "case": str(case),
            "implementation": case.implementation,
            "mode": case.mode,
            "calls": found["calls"],
            "ms": found["contenders"]["plain"]["ms"],
            "spread": found["spread"],
            "streamed": found["streamed"],
            "kept": found["kept"],
            "contenders": found["contenders"],
        }


def _cases(session: Session) -> Iterator[Traced]:
    length, width, shallow, deep = session.pick(
        full=(512, 512, 2, 8), quick=(512, 512, 2, 2), tiny=(8, 16, 1, 1)
    )
    small = Traced("Llama", shallow, width, length)
    implementations = session.pick(
        full=("sdpa", "eager", "sightline"), quick=("sdpa", "eager"), tiny=("sdpa",)
    )
    for family in ("Llama", "GPT-2"):
        for implementation in implementations:
            for mode in session.pick(
                full=("no_grad", "inference_mode"), quick=("no_grad",), tiny=("no_grad", "inference_mode")
            ):
                yield Traced(family, shallow, width, length, implementation, mode)
    if deep > shallow:
        yield Traced(small.family, deep, width, length)
        yield Traced("BERT", shallow, 768, length)
        yield Traced("Llama", shallow, 2048, length)


def _in_child(case: Traced, threads: int, budget: Budget) -> dict[str, Any]:
    given = json.dumps({"case": asdict(case), "threads": threads, "budget": asdict(budget)})
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, given],
        capture_output=True, text=True, check=False, env=os.environ | _KEEP_MEMORY,
    )  # fmt: skip
    if run.returncode < 0 or run.returncode == 130:
        raise KeyboardInterrupt
    if run.returncode:
        raise RuntimeError(f"tracing {case}: {(run.stderr.strip() or 'no message').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


# --- in a process of its own ---------------------------------------------------------------------------


def measure_in_child() -> None:
    """Measures the case in ``sys.argv[1]`` and prints what was found, both as JSON."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    with contextlib.redirect_stdout(sys.stderr):
        found = _measured(Traced(**given["case"]), Budget(**given["budget"]))
    print(json.dumps(found))


def _measured(case: Traced, budget: Budget) -> dict[str, Any]:
    model, step = _model(case)

    def streamed() -> None:
        with tracing(model, on_call=lambda call: None):
            step()

    def kept() -> None:
        with tracing(model):
            step()

    contenders: dict[str, Callable[[], object]] = {
        "plain": step, "streamed": streamed, "plain again": step, "kept": kept,
    }  # fmt: skip
    with getattr(torch, case.mode)():
        before = step()
        with tracing(model) as trace:
            after = step()
        if not torch.equal(before, after):
            raise RuntimeError("the traced model computed other numbers")
        if trace.unverified:
            raise RuntimeError(f"{trace.unverified[0]} was not verified")
        for _ in range(3):
            streamed()
            kept()
        samples = take_turns({name: partial(clock, call) for name, call in contenders.items()}, budget)
    plain, again = samples["plain"], samples["plain again"]
    return {
        "calls": len(trace),
        "streamed": samples["plain"].over(samples["streamed"]) - 1,
        "kept": again.over(samples["kept"]) - 1,
        "spread": plain.spread,
        "contenders": {name: figures(one, None) for name, one in samples.items()},
    }


def _model(case: Traced) -> tuple[Any, Callable[[], torch.Tensor]]:
    import sightline.huggingface  # noqa: F401  (registers the implementation)

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


SECTION = Section(
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
