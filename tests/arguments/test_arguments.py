"""Odd values of every public argument: an error of ours that names the argument, or the right answer."""

import inspect
import re
import traceback
from pathlib import Path

import pytest
import torch

import sightline
from arguments.kinds import files, shown
from arguments.tables import ELSEWHERE, TABLES
from sightline import losses, measure, models, nn
from sightline.common.errors import CommandError

ROOMS = {"sightline": sightline, "nn": nn, "models": models, "measure": measure, "losses": losses}
OURS = (TypeError, ValueError, IndexError, CommandError)
HOME = str(Path(sightline.__file__).parent)

#: What an error calls an argument, where it does not call it by its name.
CALLED = {
    "A": "A: expected|measure|layers", "right": "right|measure|layers", "kv_lengths": "lengths", "tensor": "mask", "folder": "folder|path",
    "costs": "costs|dtw", "ids": "ids", "layers": "layers|measure", "decoder": "decoder|layers",
    "query": "query|key", "name": "about",
}  # fmt: skip

ARGUMENTS = [
    pytest.param(entry, argument, id=f"{room}.{name}.{argument}")
    for room, table in TABLES.items()
    for name, entry in table.items()
    for argument in entry.kinds
]


@pytest.mark.parametrize("entry, argument", ARGUMENTS)
def test_odd_values_are_refused_by_name(entry, argument):
    called = re.compile(rf"\b({CALLED.get(argument, argument)})\b")
    for value in entry.kinds[argument].refused:
        error = refusal(entry, argument, value)
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert last.filename.startswith(HOME), f"{shown(value)}: {last.filename}: {error}"
        assert called.search(str(error)), f"{shown(value)}: {error}"


@pytest.mark.parametrize("entry, argument", ARGUMENTS)
def test_odd_values_are_worth_plain_ones(entry, argument):
    for pair in entry.kinds[argument].taken:
        results = []
        for value in pair:
            torch.manual_seed(0)
            results.append(worth(entry.call(**{**entry.given, argument: value})))
        torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("load", [models.from_pretrained, models.load_tokenizer, models.from_huggingface])
@pytest.mark.parametrize("what", ["missing", "folder", "file"])
def test_a_path_that_holds_nothing_good(load, what):
    path = files()[what]
    with pytest.raises(OURS, match=re.escape(str(path))):
        load(path)


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_hold_every_callable(room):
    names = {name.split("(")[0].split(".")[0].split(",")[0] for name in TABLES[room]}
    assert set(ROOMS[room].__all__) - names - ELSEWHERE[room].keys() == set()
    assert ELSEWHERE[room].keys() - set(ROOMS[room].__all__) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_hold_every_number_and_word(room):
    plain = re.compile(r"^(int|float|bool|str|Align)( \| None)?$")
    for name, entry in TABLES[room].items():
        if inspect.isfunction(entry.call) or inspect.isclass(entry.call):
            for argument in inspect.signature(entry.call).parameters.values():
                skipped = argument.name in (
                    "scale",
                    "softcap",
                    "return_matrix",
                )  # tests/engine/test_errors.py
                if plain.match(str(argument.annotation)) and not skipped:
                    assert argument.name in entry.kinds, f"{name}({argument.name})"


def refusal(entry, argument, value):
    """The error that a value gives."""
    try:
        result = entry.call(**{**entry.given, argument: value})
    except OURS as error:
        return error
    pytest.fail(f"{shown(value)} is taken, and gives {result!r}")


def worth(result):
    """What a result is worth, as what can be compared."""
    if isinstance(result, sightline.Mask):
        return result.visible((2, 4, 5, 5), torch.device("cpu")).expand(2, 4, 5, 5)
    if isinstance(result, sightline.Bias):
        return result.dense((2, 4, 5, 5), torch.device("cpu")).expand(2, 4, 5, 5)
    if isinstance(result, torch.nn.Module):
        return [*result.parameters(), *result.buffers()]
    if isinstance(result, measure.WeightedNorms):
        return result.norms
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return [worth(one) for one in result]
    if isinstance(result, torch.Tensor):
        return result
    if hasattr(result, "_fields") and all(isinstance(one, (torch.Tensor, float)) for one in result):
        return [torch.as_tensor(one) for one in result]
    # NumPy's and PyTorch's numbers print as Python's.
    return torch.tensor(list(re.sub(r"(np\.\w+|tensor)\(([^()]*)\)", r"\2", repr(result)).encode()))
