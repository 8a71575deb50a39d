"""The definition of a cache with scores and evictions: everything is kept, and looked at densely in float64."""

from __future__ import annotations

import math

import torch

from sightline.biases import as_bias
from sightline.nn import KVCache


class DenseCache(KVCache):
    """Holds every row; what was evicted is only marked as gone. Masks need no translation then."""

    def __init__(self, kind=None, window=32):
        super().__init__(512)  # room enough: growing goes by len()
        self.keep_scores(kind, window)
        self.kind, self.size = kind, window
        self.there = self.sums = None  # [B,G,L]

    def keep_scores(self, scores, window=32):
        self.kind, self.size = scores, window

    def append(self, key, value, *, lengths=None):
        b, g, n, _ = key.shape
        before = self.lengths.tolist() or [0] * b
        self.counts = [n] * b if lengths is None else [int(one) for one in lengths]
        keys, values = super().append(key, value, lengths=lengths)
        length = keys.shape[2]
        there = torch.zeros(b, g, length, dtype=torch.bool)
        sums = torch.full((b, g, length), math.inf if self.kind == "window" else 0.0).double()
        if self.there is not None:
            there[:, :, : self.there.shape[2]], sums[:, :, : self.sums.shape[2]] = self.there, self.sums
        for entry in range(b):
            there[entry, :, before[entry] : before[entry] + self.counts[entry]] = True
        self.there, self.sums = there, sums
        return keys, values

    def attend(self, query, *, mask=None, bias=None, dropout=0.0, return_matrix=False):
        b, h, n, d = query.shape
        g, length = self.there.shape[1:]
        shape, device = (b, h, n, length), query.device
        key, value = (t.double().repeat_interleave(h // g, 1) for t in (self.key, self.value))
        logits = query.double() @ key.mT / math.sqrt(d)
        if bias is not None:
            logits = logits + as_bias(bias).dense(shape, device)
        seen = self.there.repeat_interleave(h // g, 1)[:, :, None].expand(shape)
        if mask is not None:
            seen = seen & (mask if isinstance(mask, torch.Tensor) else mask.visible(shape, device))
        weights = logits.masked_fill(~seen, -math.inf).softmax(-1).nan_to_num(0.0)
        self.take(weights.unflatten(1, (g, -1)).mean(2))
        return (weights @ value.nan_to_num(0.0)).to(query.dtype)

    def take(self, weights):
        """[B,G,n,L]"""
        for b, count in enumerate(self.counts):
            own = weights[b, :, :count]
            if self.kind == "received":
                self.sums[b] += own.sum(1)
            elif self.kind == "last" and count:
                self.sums[b] = own[:, -1]
            elif self.kind == "window" and count > 1:
                size = min(self.size, count)
                self.sums[b] = own[:, -size:].mean(1)
                self.sums[b, :, int(self.lengths[b]) - size :] = math.inf

    def __len__(self):
        return 0 if self.there is None else int(self.there.sum(-1).max())

    @property
    def key(self):
        return self._rooms["key"][:, :, : max(self._filled)]

    @property
    def value(self):
        return self._rooms["value"][:, :, : max(self._filled)]

    @property
    def scores(self):
        return self.sums

    def evict(self, scores, keep, *, recent=0, sinks=0):
        scores = (self.sums if scores is None else scores).expand(self.there.shape)
        for b in range(self.there.shape[0]):
            for g in range(self.there.shape[1]):
                rows = self.there[b, g].nonzero().flatten().tolist()
                last = set(rows[len(rows) - recent :])
                order = sorted(rows, key=lambda j: (j < sinks or j in last, float(scores[b, g, j]), j))
                for gone in order[: max(0, len(rows) - keep)]:
                    self.there[b, g, gone] = False

    def reorder(self, indices):
        super().reorder(indices)
        self.there, self.sums = self.there[indices], self.sums[indices]

    def left(self):
        """For each entry and head the positions that are left."""
        return [[row.nonzero().flatten().tolist() for row in entry] for entry in self.there]
