"""One text for each entry: greedy or drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.models.generation.choice import Choice
from sightline.models.generation.result import Generated
from sightline.models.generation.running import Running


def sample(
    running: Running,
    ids: Tensor,
    lengths: Tensor | None,
    new_tokens: int,
    choice: Choice,
    end: int | None,
    pad: int,
) -> Generated:
    """Token by token until every entry has ended; see :func:`generate`."""
    batch = ids.shape[0]
    scores = torch.zeros(batch, device=ids.device)
    count = torch.zeros(batch, dtype=torch.int64, device=ids.device)
    going = torch.ones(batch, dtype=torch.bool, device=ids.device)
    written: list[Tensor] = []
    log_p = running.step(ids, lengths)
    while True:
        token = choice(log_p)
        scores += log_p.gather(-1, token[:, None])[:, 0].masked_fill(~going, 0)
        count += going
        written.append(token.masked_fill(~going, pad))
        if end is not None:
            going &= token != end
        if len(written) == new_tokens or not going.any():
            return Generated(torch.stack(written, 1), count, scores)
        log_p = running.step(written[-1][:, None])  # those that ended go on with padding, to no effect
