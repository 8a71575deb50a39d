"""Which module runs: qualified names, followed with PyTorch's hooks for all modules.

The hooks of single modules would switch off the fast paths of ``nn.TransformerEncoder`` and
``nn.MultiheadAttention``, and change what the model computes. The process-wide ones do not. They are there
only while a trace is open, and each thread looks at its own traces only.
"""

from __future__ import annotations

import math
import threading
import warnings
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from sightline.nn.linear import Linear, OutputLinear


class RunningModule(NamedTuple):
    """A module that runs.

    Attributes:
        module: the module itself.
        name: its qualified name; ``None`` if it belongs to another model.
        args: what it was called with; whoever called it holds them as long.
    """

    module: nn.Module
    name: str | None
    args: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its first argument, if that is a tensor; else ()."""
        first = self.args[0] if self.args else None
        return tuple(first.shape) if isinstance(first, Tensor) and not first.is_nested else ()


class ModuleStack:
    """The modules of one trace that run at the moment, outermost first."""

    def __init__(self, model: Any) -> None:
        self.names: dict[int, str] = {}
        self.classes: set[type] = set()
        self._model = model if isinstance(model, nn.Module) else None
        #: All modules of the model, by their qualified names.
        self.modules: dict[str, nn.Module] = {}
        if self._model is not None:
            self.modules = dict(self._model.named_modules())
            self.names = {id(module): _without_wrappers(name) for name, module in self.modules.items()}
            self.classes = set(map(type, self.modules.values()))
        self.running: list[RunningModule] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...] = ()) -> RunningModule:
        """A module begins."""
        running = RunningModule(module, self.names.get(id(module)), args)
        self.running.append(running)
        return running

    def leave(self, module: nn.Module) -> None:
        """A module ends; with it what it called and what did not end by itself."""
        if self.running and self.running[-1].module is module:
            self.running.pop()
            return
        for place in range(len(self.running) - 2, -1, -1):
            if self.running[place].module is module:
                del self.running[place:]
                return

    @property
    def foreign(self) -> bool:
        """Whether only modules of other models run."""
        return self._model is not None and bool(self.running) and all(r.name is None for r in self.running)

    @property
    def name(self) -> str:
        """The qualified name of the innermost module that runs."""
        return next((r.name for r in reversed(self.running) if r.name is not None), "")

    @property
    def module(self) -> nn.Module | None:
        """The innermost module that runs."""
        return self.running[-1].module if self.running else None

    def heads(self) -> int | None:
        """How many heads the running modules say that they have, the innermost first."""
        for running in reversed(self.running[-3:]):
            for attribute in _HEADS:
                number = getattr(running.module, attribute, None)
                if isinstance(number, int) and number > 0:
                    return number
        return None

    def batch(self) -> int | None:
        """How many entries the innermost input has."""
        shapes = (running.shape for running in reversed(self.running))
        return next((shape[0] for shape in shapes if len(shape) > 2), None)

    def cut(self, query: Tensor) -> tuple[int, str]:
        """Into how many windows attention with this query [B,H,N,D] cuts a layer's input; what its rows are.

        A layer is the innermost numbered module, or what holds it if that is attention itself. What holds all
        layers may hand them windows as they are, and then these are its batch.
        """
        shapes = [s for s in self._shapes_of_layer() if len(s) > 2 and 0 not in s]
        windows = [query.shape[0] // s[0] for s in shapes if _is_cut(query, s)]
        over_channels = any(_over_channels(query, s) for s in shapes)
        return max(windows, default=1) or 1, "channels" if over_channels else "positions"

    def _shapes_of_layer(self) -> list[tuple[int, ...]]:
        """The shapes of what went into the layer that runs, and into what runs within it."""
        shapes: list[tuple[int, ...]] = []
        numbered = False
        for running in reversed(self.running):
            if running.name is None:
                continue
            shapes.append(running.shape)
            numbered = numbered or running.name.rpartition(".")[2].isdigit()
            if numbered and len(shapes) > 1:
                break
        return shapes


def _is_cut(query: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the query's batch holds several entries for each of an input of this shape."""
    sequence_first = shape[:2] == (query.shape[2], query.shape[0])
    return query.shape[0] % shape[0] == 0 and not sequence_first


def _over_channels(query: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether rows are channels of an input [B,N,C], [B,C,H,W] or [B,H,W,C], and products run over places."""
    _, heads, rows, width = query.shape
    for channels, places in ((shape[-1], shape[1:-1]), (shape[1], shape[2:])):
        if heads * rows == channels and width == math.prod(places) != rows:
            return True
    return False


#: Modules of one tensor in which no attention can run, PyTorch's and ours, and whether they are projections.
_SIMPLE: dict[type, bool | None] = {
    nn.Linear: True,
    Linear: True,
    OutputLinear: True,
    nn.LayerNorm: False,
    nn.RMSNorm: False,
    nn.GELU: False,
    nn.SiLU: False,
    nn.Tanh: False,
}


def is_simple(module: nn.Module) -> bool:
    """Whether the module runs nothing but a library's own code for a projection, a norm or an activation."""
    return (
        is_projection(module) is not None
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
        and len(torch_modules._global_forward_pre_hooks) == 1
    )


def is_projection(module: nn.Module) -> bool | None:
    """Whether a simple module multiplies with weights; ``None`` for one that is not simple."""
    kind = type(module)
    if kind not in _SIMPLE:
        _SIMPLE[kind] = _of_transformers(kind.__module__, kind.__name__)
    return _SIMPLE[kind]


def _of_transformers(file: str, name: str) -> bool | None:
    """The same for classes of Transformers: its Conv1D, its activations, and the RMSNorm of each model."""
    if (file, name) in _CONV1D:
        return True
    norm = file.startswith("transformers.models.") and name.endswith("RMSNorm")
    return False if norm or file == "transformers.activations" else None


_CONV1D = (
    ("transformers.pytorch_utils", "Conv1D"),
    ("sightline.huggingface.acceleration", "LinearConv1D"),  # which is not loaded where nobody asks for it
)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads", "attention_heads")
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def _without_wrappers(name: str) -> str:
    for wrapper in _WRAPPERS:
        if wrapper in name:
            name = ".".join(part for part in name.split(".") if part != wrapper)
    return name


_COMPILED = r"Using `torch.compile\(module\)` when there are global hooks"


class _Listeners(threading.local):
    """Of each thread its own."""

    def __init__(self) -> None:
        self.all: list[Any] = []


_listeners = _Listeners()
_lock = threading.Lock()
_open = 0
_handles: list[Any] = []


def listen(listener: Any) -> None:
    """Calls ``listener.entered(module, args)`` and ``.left(module, output)`` for what this thread runs."""
    global _open
    _listeners.all.append(listener)
    with _lock:
        _open += 1
        if _open == 1:
            # torch.compile warns that such hooks fire once more for a compiled model, which is all right.
            warnings.filterwarnings("ignore", _COMPILED, UserWarning)
            _handles.append(torch_modules.register_module_forward_pre_hook(_before))
            _handles.append(torch_modules.register_module_forward_hook(_after, always_call=True))


def stop_listening(listener: Any) -> None:
    """The opposite of :func:`listen`, from the same thread."""
    global _open
    _listeners.all.remove(listener)
    with _lock:
        _open -= 1
        if _open == 0:
            while _handles:
                _handles.pop().remove()
            for place, (_, message, *_) in enumerate(warnings.filters):
                if message is not None and getattr(message, "pattern", message) == _COMPILED:
                    del warnings.filters[place]  # type: ignore[attr-defined]
                    break


def _before(module: nn.Module, args: Any) -> None:
    for listener in _listeners.all:
        listener.entered(module, args)


def _after(module: nn.Module, args: Any, output: Any) -> None:
    for listener in reversed(_listeners.all):
        listener.left(module, output)
