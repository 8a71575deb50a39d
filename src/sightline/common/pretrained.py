"""Loading what Transformers saved: safely, quietly and, where possible, without a network."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any


def load_pretrained(kind: Any, where: str, local: bool, **options: Any) -> Any:
    """``kind.from_pretrained`` from a folder or the local cache; the network only for what neither has.

    No code of a model folder is executed.

    Args:
        kind: a class of Transformers: AutoConfig, AutoModel, AutoTokenizer, ...
        where: the folder, or the name on the hub.
        local: whether it is a folder, for which the network is never asked.
        **options: of ``kind.from_pretrained``.
    """
    options["trust_remote_code"] = False
    try:
        return kind.from_pretrained(where, local_files_only=True, **options)
    except OSError:
        if local:
            raise
    return kind.from_pretrained(where, **options)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, its warnings and its progress bars out of our output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        hub.setLevel(hub_level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
