"""``sightline.profile``: what every head of a model does over many documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sightline.profiling.profiled_model import ModelCall
    from sightline.profiling.run import ProfileProgress
    from sightline.profiling.table import Profile
    from sightline.tracing.choice import Layers


def profile(
    model: str | nn.Module,
    documents: str | Path | Iterable[Any],
    *,
    tokenizer: Any = None,
    measures: Sequence[str] | None = None,
    layers: Layers | None = None,
    max_tokens: int | None = None,
    windows: bool = False,
    batch: int = 16,
    limit: int | None = None,
    unverified: bool = False,
    labels: bool | None = None,
    run: ModelCall | None = None,
    checkpoint: str | Path | None = None,
    resume: bool | None = None,
    progress: Callable[[ProfileProgress], None] | None = None,
    device: str | torch.device = "auto",
) -> Profile:
    """A :class:`~sightline.profiling.table.Profile` of every attention head over many documents.

    Each document gives each head one number per measure; rows hold the mean, spread and quantiles of these.
    Memory does not grow with the corpus. Sums are exact: neither the documents' order, nor the number of
    processes that share them (``torchrun``), nor interruptions change the result.

    Args:
        model: a Hugging Face name, a local folder, or any PyTorch model.
        documents: a path, as for ``sightline profile``; texts; or sequences or tensors of token ids.
        tokenizer: for texts, where the model is given as a module.
        measures, layers, max_tokens, windows, batch, limit, unverified, labels: what is measured, and on how
            much of the corpus; see :class:`sightline.profiling.options.ProfileOptions`.
        run: calls a model that is not from Transformers, with ids [B,N] and either ``None`` or, where some
            are padding, a bool mask [B,N], True at real tokens.
        checkpoint: a file that holds the progress until all is done.
        resume: ``None`` continues from the checkpoint if there is one; True requires one; False starts over.
        progress: called after each batch.
        device: where a model given by name runs: "auto", "cpu", "cuda", "mps". One that is given as a module
            stays where it is.

    Raises:
        CommandError: for no documents, unknown measures, unverified calls, a checkpoint with other settings.
        TypeError: for an argument of another kind.
        KeyboardInterrupt: after Ctrl-C; with a checkpoint only once the batch is finished and saved.

    Example:
        >>> import sightline, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
        >>> model = torch.nn.Sequential(torch.nn.Embedding(50, 16), layer)
        >>> texts = [[1, 2, 3], [4, 5, 6, 7], [8, 9]]
        >>> heads = sightline.profile(model, texts, run=lambda ids, real: model(ids), batch=1)
        >>> heads.values("entropy").shape, heads.rows[0].count
        (torch.Size([1, 2]), 3)
    """
    from sightline.common.check import flag, path, shown
    from sightline.common.devices import device_named
    from sightline.profiling.corpus import Corpus
    from sightline.profiling.job import ProfileJob
    from sightline.profiling.loading import load_profiled_model
    from sightline.profiling.options import ProfileOptions

    checked = None if checkpoint is None else path("checkpoint", checkpoint)
    if resume is not None:
        flag("resume", resume)
    for name, called in (("run", run), ("progress", progress)):
        if called is not None and not callable(called):
            raise TypeError(f"{name}: must be a function, got {shown(called)}.")
    if not isinstance(documents, (str, Path, Iterable)) and not hasattr(documents, "__getitem__"):
        raise TypeError(f"documents: must be a path, texts or token ids, got {shown(documents)}.")
    options = ProfileOptions(measures, layers, max_tokens, windows, batch, limit, unverified, labels)
    corpus = Corpus(path("documents", documents)) if isinstance(documents, str | Path) else documents
    where = device_named(device) if isinstance(model, str | Path) else None
    job = ProfileJob(load_profiled_model(model, tokenizer, run, device=where), corpus, options)
    heads = job.run(checked, resume, progress)
    job.done()
    return heads


def load_profile(path: str | Path) -> Profile:
    """Reads a profile that was saved as .parquet or .csv.

    Raises:
        sightline.common.errors.CommandError: if the file is not a profile.

    Example:
        >>> import sightline
        >>> sightline.load_profile("heads.txt")
        Traceback (most recent call last):
            ...
        sightline.common.errors.CommandError: heads.txt: the name of a profile must end in .parquet or .csv
    """
    from sightline.common.check import path as as_path
    from sightline.profiling.table import Profile

    return Profile.load(as_path("path", path))
