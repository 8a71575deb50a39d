"""The house: which room may import which, no circles, and a module behind every name of a module."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sightline

#: The rooms from the bottom up. A module imports from its own room and from lower ones; rooms on one level
#: do not know each other. Late imports count, and so do those for type checkers.
LEVELS: tuple[dict[str, str], ...] = (
    {"_version": "the version"},
    {"common": "checks, errors, names and slots that every room may use"},
    {"core": "the native core, loaded"},
    {"positions": "where queries stand among the keys", "products": "products with a matrix of weights"},
    {"backends": "the numbers: native and plain kernels behind one contract"},
    {"transforms": "derivatives of functions of a problem, under any transform of PyTorch"},
    {"masks": "who may look at whom", "biases": "what is added to a score"},
    {"lowering": "arguments checked and turned into a problem for a backend"},
    {"matrix": "the attention matrix that is never stored"},
    {"reference": "the definition, in float64"},
    {"call": "attention() and what surrounds it"},
    {
        "measure": "functions of the matrix",
        "nn": "layers",
        "distributed": "one sequence on several processes",
    },
    {"tracing": "attention caught in any model", "models": "Transformers made of the layers"},
    {
        "attribution": "scores, split into what each part of a model wrote",
        "monitoring": "measures during training",
        "losses": "losses made of the matrix, and training aids",
        "huggingface": "Sightline inside of Transformers",
        "interventions": "what a model looks at, changed",
    },
    {"profiling": "measures over a corpus", "removing": "what each part of a model does to a number"},
    {"reading": "what a model made of an input"},
    {"view": "what people see", "tasks": "applications, from data to answers"},
    {"bench": "speed, beside others"},
    {"commands": "one function for each command"},
    {"cli": "the command line"},
    {"__main__": "python -m sightline"},
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

ROOT = Path(sightline.__file__).parent


def module_name(path: Path) -> str:
    """ "sightline.masks.mask" of masks/mask.py, "sightline.masks" of masks/__init__.py."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module: str) -> str:
    """The room of a module; of the top package itself ""."""
    return module.partition(".")[2].partition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """The modules of Sightline that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.split(".")[0] == "sightline")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative imports are not used here"
            if node.module.split(".")[0] == "sightline":
                names = (f"{node.module}.{each.name}" for each in node.names)
                yield from {name if name in FILES else node.module for name in names}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """What every module imports; read by who tests it alone, since it takes seconds."""
    return {module: set(imported(path)) for module, path in FILES.items()}


@pytest.fixture(scope="module")
def inside(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same of modules in rooms."""
    return {module: targets for module, targets in imports.items() if room_of(module)}


def test_every_room_has_its_place() -> None:
    assert {room_of(module) for module in FILES} - {""} == set(LEVEL_OF)


def test_no_arrow_points_up(inside: dict[str, set[str]]) -> None:
    wrong = [
        f"{module} imports {target}"
        for module, targets in inside.items()
        for target in sorted(targets)
        if room_of(target)
        and room_of(target) != room_of(module)
        and LEVEL_OF[room_of(target)] >= LEVEL_OF[room_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_who_computes_is_known_where_it_is_chosen_alone(inside: dict[str, set[str]]) -> None:
    """The wings stand behind their contract."""
    rooms = ("native", "cuda", "triton", "plain")
    wings = tuple(f"sightline.backends.{room}" for room in rooms)
    outside = {module: targets for module, targets in inside.items() if not module.startswith(wings)}
    assert {module for module, targets in outside.items() if any(t.startswith(wings) for t in targets)} == {
        "sightline.backends.wings",
    }


def test_nothing_imports_the_top_package(inside: dict[str, set[str]]) -> None:
    assert [module for module, targets in inside.items() if "sightline" in targets] == []


def test_files_import_each_other_in_no_circle(imports: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("package", [name for name, path in FILES.items() if path.name == "__init__.py"])
def test_no_name_hides_a_module(package: str) -> None:
    """So that ``import sightline.tracing.eager as e`` gives the module, for all of them."""
    holder = importlib.import_module(package)
    hidden = []
    for each in pkgutil.iter_modules(holder.__path__):
        if each.name in ("__main__", "_native"):  # the one would run, the other is the core and no module
            continue
        module = importlib.import_module(f"{package}.{each.name}")
        if getattr(holder, each.name) is not module:
            hidden.append(each.name)
    assert hidden == []
