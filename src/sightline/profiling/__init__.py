"""Head statistics over a corpus, in constant memory.

``corpus`` reads documents, ``batches`` cuts them to tokens, ``run`` goes through them, ``reads`` and
``statistics`` take a few numbers of each attention call, ``tally`` adds them up exactly (``exact``,
``bins``), ``state`` and ``checkpoint`` outlive interruptions, ``shards`` are several processes, ``table``,
``plot`` and ``summary`` show what was found; ``job`` puts them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from sightline.profiling.job import Progress
    from sightline.profiling.subject import Runner
    from sightline.profiling.table import Profile
    from sightline.tracing.choice import Layers

__all__ = ["load_profile", "profile"]


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
    run: Runner | None = None,
    checkpoint: str | Path | None = None,
    resume: bool | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Profile:
    """Statistics of every attention head over many documents: each document gives each head one number.

    What is kept does not grow with the corpus. Sums are exact, so the result does not depend on the order of
    the documents, on how many processes share them (``torchrun``), or on interruptions.

    Args:
        model: a Hugging Face name, a local folder, or any PyTorch model.
        documents: a path, read as by ``sightline profile``; or texts; or token ids, for models without a
            tokenizer: sequences or tensors of integers.
        tokenizer: for texts, where the model comes without a name.
        measures: names; default: those that cost little. See
                :data:`sightline.profiling.statistics.STATISTICS`.
        layers: as for :func:`sightline.trace`.
        max_tokens: longer documents are cut; by default to what the model takes.
        windows: instead of dropping what is cut off, take it as further documents.
        batch: documents of like length that run together, at most. Padding does not count.
        limit: documents that are read, at most.
        unverified: measure attention calls that could not be verified, too.
        labels: say what each head does, by some of the documents; default: if no measures are chosen.
        run: how a model that is not of Transformers is called: with ids [B,N] and, where some are padding,
            a bool mask [B,N], else ``None``.
        checkpoint: a file that progress is kept in, until all is done.
        resume: ``None``: go on from the checkpoint if there is one; True: there must be one; False: begin
            anew.
        progress: is called after each batch.

    Returns:
        A :class:`Profile`: ``.rows``, ``.values(measure)`` [L,H], ``.save(path)``, ``.plot(path)``.

    Raises:
        sightline.errors.CommandError: for what the caller can put right, in one line: no documents, unknown
        measures, unverified calls, a checkpoint of other settings. KeyboardInterrupt: after Ctrl-C; with a
        checkpoint only when the batch is done and saved.

    Example:
        >>> import sightline, torch
        >>> layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()
        >>> model = torch.nn.Sequential(torch.nn.Embedding(50, 16), layer)
        >>> texts = [[1, 2, 3], [4, 5, 6, 7], [8, 9]]
        >>> found = sightline.profile(model, texts, run=lambda ids, real: model(ids), batch=1)
        >>> found.values("entropy").shape, found.rows[0].count
        (torch.Size([1, 2]), 3)
    """
    from sightline.profiling.job import Job

    job = Job(
        model,
        Path(documents) if isinstance(documents, str) else documents,
        tokenizer=tokenizer,
        measures=measures,
        layers=layers,
        max_tokens=max_tokens,
        windows=windows,
        batch=batch,
        limit=limit,
        unverified=unverified,
        labels=labels,
        run=run,
    )
    found = job.run(None if checkpoint is None else Path(checkpoint), resume, progress)
    job.done()
    return found


def load_profile(path: str | Path) -> Profile:
    """Reads a profile that was saved as .parquet or .csv.

    Raises:
        sightline.errors.CommandError: for a file that is no profile.
    """
    from sightline.profiling.table import load

    return load(Path(path))
