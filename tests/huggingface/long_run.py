"""A two-layer Llama on a long input, in a process of its own: its peak memory, and how far one head is off.

    python long_run.py TOKENS DTYPE HIDDEN QUERY_HEADS KEY_HEADS MLP_WIDTH

Prints one JSON object. Heads are 64 wide.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import sightline.huggingface  # noqa: F401  (registers "sightline")
from sightline.bench.resident import forget_peak, resident
from sightline.matrix import AttentionMatrix, Readouts

HEAD = 1
ROWS = 12
LAST = 32  # the last 1/32 of the queries get their denominators anew, over all keys
BLOCK = 64


def main() -> None:
    n, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    hidden, heads, key_heads, width = map(int, sys.argv[3:])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000, hidden_size=hidden, intermediate_size=width, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=key_heads, max_position_embeddings=n,
        initializer_range=0.1,
    )  # fmt: skip
    model = LlamaForCausalLM._from_config(config, attn_implementation="sightline").eval().to(dtype)
    ids = torch.randint(0, 1000, (1, n))
    with torch.no_grad():
        warm = model(ids[:, :64], output_attentions=True, use_cache=False, logits_to_keep=1)
        warm.attentions[1].readouts("entropy", "received", topk=8)
    del warm
    forget_peak()
    before, start = resident("VmHWM"), time.process_time()
    with torch.no_grad():
        out = model(ids, output_attentions=True, use_cache=False, logits_to_keep=1)
    forward = time.process_time() - start
    matrix = out.attentions[1][:, HEAD : HEAD + 1]
    start = time.process_time()
    read = matrix.readouts("entropy", "received", topk=8)
    readouts = time.process_time() - start
    peak = resident("VmHWM") - before
    figures = {"peak": peak, "forward": forward, "readouts": readouts}
    print(json.dumps(figures | deviations(matrix, read)))


def deviations(matrix: AttentionMatrix, read: Readouts) -> dict[str, float]:
    """The largest relative deviations from float64 computed from the head's own queries and keys."""
    problem = matrix.problem
    query, key = problem.query[0, 0].double() * problem.scale, problem.key[0, 0].double()
    n = len(query)
    off = dict.fromkeys(("entropy", "top", "place", "lse", "last", "received", "total"), 0.0)

    def worse(name: str, got: torch.Tensor, true: torch.Tensor) -> None:
        apart = (got.double() - true).abs() / true.abs().clamp(min=1e-30)
        off[name] = max(off[name], float(apart.max()))

    values, places = (each[0, 0] for each in read.topk)
    entropy, received, lse = read.entropy[0, 0], read.received[0, 0], matrix.lse[0, 0]
    for row in torch.linspace(8, n - 1, ROWS).long().tolist():
        logs = (key[: row + 1] @ query[row]).log_softmax(0)
        worse("entropy", entropy[row], -(logs.exp() * logs).sum())
        worse("top", values[row], logs.exp().topk(8)[0])
        worse("place", values[row], logs.exp()[places[row]])  # places are those of these weights

    # The last queries anew, over all keys: under a causal mask nothing else reaches the last keys.
    last = n // LAST
    sums = torch.zeros(last, dtype=torch.double)
    for at in range(n - last, n, BLOCK):
        scores = query[at : at + BLOCK] @ key.T
        rows = torch.arange(at, min(at + BLOCK, n))
        scores.masked_fill_(torch.arange(n) > rows[:, None], -torch.inf)
        true = scores.logsumexp(1)
        worse("lse", (lse[at : at + BLOCK] - true).exp(), torch.ones(len(true)))
        sums += (scores[:, n - last :] - true[:, None]).exp().sum(0)
    worse("last", received[n - last :], sums)

    # Keys from the first to the last, over all queries, with the denominators that were judged above.
    keys = torch.linspace(0, n - 1, 16).long()
    weights = (query @ key[keys].T - lse.double()[:, None]).exp()
    weights.masked_fill_(torch.arange(n)[:, None] < keys, 0)
    worse("received", received[keys], weights.sum(0))
    worse("total", received.double().sum(), torch.tensor(float(n)))
    return off


if __name__ == "__main__":
    main()
