"""Trainer and accelerate handle attentions as they handle the tensors of eager attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from compare import assert_same, matrices
from tiny_models import ENCODERS, TEXT, pair, tokens
from torch import Tensor
from transformers import trainer_pt_utils as of_trainer

accelerate = pytest.importorskip("accelerate", reason="Trainer needs accelerate")
of_accelerate: Any = accelerate.utils

WIDTH = 6


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Seven texts: the last batch of three is smaller than the others."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        return {"input_ids": tokens(1, WIDTH, seed=index)[0], "labels": torch.tensor(index % 2)}


def trainer(implementation: str, folder: Path, later: bool = False, **options: Any) -> Any:
    asked = {} if later else {"output_attentions": True}
    config = hf.BertConfig(**TEXT, attn_implementation=implementation, **asked)
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(config)
    if later:
        model.config.output_attentions = True
    fixed = {"use_cpu": True, "disable_tqdm": True, "report_to": [], "save_strategy": "no", "max_steps": 2}
    batches = {"per_device_eval_batch_size": 3, "per_device_train_batch_size": 3}
    arguments = hf.TrainingArguments(str(folder), **fixed, **batches, **options)
    return hf.Trainer(model=model, args=arguments, train_dataset=Texts(), eval_dataset=Texts())


OPTIONS: dict[str, dict[str, Any]] = {
    "at once": {},
    "moved after each batch": {"eval_accumulation_steps": 1},
    "moved after two batches": {"eval_accumulation_steps": 2},
    "batches kept apart": {"eval_do_concat_batches": False},
    "asked later": {"later": True},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_predictions(options: str, tmp_path: Path) -> None:
    ours, eager = (
        trainer(implementation, tmp_path, **OPTIONS[options]).predict(Texts())
        for implementation in ("sightline", "eager")
    )
    assert_same(ours.predictions, eager.predictions)
    if options != "batches kept apart":
        _, layers = ours.predictions
        assert [layer.shape for layer in layers] == [(7, 4, WIDTH, WIDTH)] * 2


def test_training_and_evaluation(tmp_path: Path) -> None:
    results = []
    for implementation in ("sightline", "eager"):
        seen: list[Any] = []
        run = trainer(implementation, tmp_path)
        for module in run.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        run.compute_metrics = lambda given, seen=seen: seen.append(given.predictions) or {"ok": 1.0}
        before = run.evaluate()["eval_loss"]
        run.train()
        results.append((before, run.evaluate()["eval_loss"], seen))
    assert_same(*results, tolerance=1e-4)
    assert len(results[0][2]) == 2


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "gather": lambda output: of_accelerate.gather(output),
    "pad_across_processes": lambda output: of_accelerate.pad_across_processes(output, dim=1, pad_index=-100),
    "concatenate": lambda output: of_accelerate.concatenate([output, output]),
    "gather_for_metrics": lambda output: accelerate.Accelerator(cpu=True).gather_for_metrics(output),
    "send_to_device": lambda output: of_accelerate.send_to_device(output, "cpu"),
    "find_batch_size": of_accelerate.find_batch_size,
    "recursively_apply": lambda output: of_accelerate.recursively_apply(lambda part: part * 2, output),
    "slice_tensors": lambda output: of_accelerate.slice_tensors(output, slice(0, 2)),
    "convert_to_fp32": of_accelerate.convert_to_fp32,
    "broadcast": of_accelerate.broadcast,
    "reduce": of_accelerate.reduce,
    "find_device": lambda output: str(of_accelerate.find_device(output)),
    "listify": of_accelerate.listify,
    "nested_detach": of_trainer.nested_detach,
    "nested_concat": lambda output: of_trainer.nested_concat(output.attentions, output.attentions),
    "nested_numpify": lambda output: of_trainer.nested_numpify(output.attentions),
    "nested_truncate": lambda output: of_trainer.nested_truncate(output.attentions, 2),
    "find_batch_size of Trainer": of_trainer.find_batch_size,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_accelerate_and_trainer(name: str) -> None:
    with torch.no_grad():
        outputs = [model(tokens(3, WIDTH), output_attentions=True) for model in pair(ENCODERS["bert"])]
    assert len(matrices(outputs[0])) == 2
    assert_same(*(FUNCTIONS[name](output) for output in outputs))


def test_what_needs_no_numbers_stays_lazy() -> None:
    model, _ = pair(ENCODERS["bert"])
    prepared = accelerate.Accelerator(cpu=True).prepare(model)
    output = prepared(tokens(3, WIDTH), output_attentions=True)
    assert len(matrices(of_accelerate.send_to_device(output, "cpu"))) == 2
    assert len(matrices(of_trainer.nested_detach(output.attentions))) == 2
