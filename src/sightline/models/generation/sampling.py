"""One text for each entry: greedy or drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.models.generation.decoding import Decoding, worth_leaving
from sightline.models.generation.next_token import NextToken
from sightline.models.generation.repetition import NoRepeat
from sightline.models.generation.result import Generated


def sample(
    decoding: Decoding,
    ids: Tensor,
    lengths: Tensor | None,
    new_tokens: int,
    choose: NextToken,
    bar: NoRepeat,
    end: int | None,
    pad: int,
) -> Generated:
    """Token by token until every entry has ended; see :func:`generate`."""
    batch = ids.shape[0]
    scores = torch.zeros(batch, device=ids.device)
    count = torch.zeros(batch, dtype=torch.int64, device=ids.device)
    tokens = ids.new_full((batch, new_tokens), pad)
    entries = torch.arange(batch, device=ids.device)  # those in the batch
    going = torch.ones(batch, dtype=torch.bool, device=ids.device)
    log_p = decoding.step(ids, lengths)
    for at in range(new_tokens):
        token = choose(bar(log_p, entries.tolist(), tokens[entries, :at]))
        scores[entries] += log_p.gather(-1, token[:, None])[:, 0].masked_fill(~going, 0)
        token = token.masked_fill(~going, pad)  # those that ended go on with padding, to no effect
        tokens[entries, at] = token
        count[entries] += going
        if end is not None:
            going = going & (token != end)
        left = going.nonzero()[:, 0]
        if at + 1 == new_tokens or not len(left):
            break
        if worth_leaving(len(left), len(entries)):
            entries, going, token = entries[left], going[left], token[left]
            decoding.reorder(left)
        log_p = decoding.step(token[:, None])
    return Generated(tokens[:, : at + 1], count, scores)
