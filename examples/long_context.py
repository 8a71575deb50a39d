"""Look into the attention of a Hugging Face model over a long text, War and Peace say.

    python examples/long_context.py war-and-peace.txt --tokens 16384 --output picture.png
    python examples/long_context.py war-and-peace.txt --model Qwen/Qwen3-0.6B --tokens 8192

Without --model it is a small Llama with random weights that reads bytes, so nothing is downloaded: what its
heads look at means nothing, but its size and its cost are real. Nothing of size tokens × tokens is ever kept.
Needs ``pip install "sightline[app,bench]"``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

import sightline
import sightline.huggingface  # makes attn_implementation="sightline" known to Transformers
from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError

PIXELS = 800


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        look(options)
    except (CommandError, OSError, ValueError) as error:
        print(f"long_context: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    summary = "Run a model on a long text; print its heads' entropies and a query's largest weights."
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("text", type=Path, help="a text file in UTF-8")
    parser.add_argument("--tokens", type=int, default=16_384, help="how many tokens to read (default 16384)")
    parser.add_argument(
        "--model", help="a folder or a Hugging Face name (default: a small one, random weights)"
    )
    parser.add_argument("--layer", type=int, default=-1, help="the layer to look into (default: the last)")
    parser.add_argument("--head", type=int, default=0, help="its head (default 0)")
    parser.add_argument("--query", type=int, default=-1, help="the query to look into (default: the last)")
    parser.add_argument("--output", type=Path, help="a PNG file for a picture of the head's whole matrix")
    return parser.parse_args(arguments)


def look(options: argparse.Namespace) -> None:
    if options.tokens < 1:
        raise ValueError(f"--tokens {options.tokens}: must be 1 or more")
    if options.output:
        if options.output.suffix != ".png":
            raise ValueError(f"--output {options.output}: the name must end in .png")
        check_writable(options.output)
    ids, texts, model = load(options)
    if not len(ids):
        raise ValueError(f"{options.text} holds no token")

    # Each layer gives a sightline.AttentionMatrix: its queries and keys, from which any weight follows.
    with torch.no_grad():
        layers = model(ids[None], output_attentions=True, use_cache=False).attentions
    if not layers or not all(isinstance(layer, sightline.AttentionMatrix) for layer in layers):
        raise ValueError(f"{options.model}: this model gives no attention matrices of one text")
    heads = layers[0].shape[1]
    layer = place(options.layer, len(layers), "--layer")
    head = place(options.head, heads, "--head")
    query = place(options.query, len(ids), "--query")

    print(f"{len(ids)} tokens, {len(layers)} layers of {heads} heads. Mean entropy of each head, in nats:")
    for at, matrix in enumerate(layers):
        print(f"  layer {at}: " + " ".join(f"{x:6.3f}" for x in matrix.entropy()[0].mean(1).tolist()))
    row = layers[layer][0, head, query]
    values, keys = row.topk(min(8, len(row)))
    print(f"Layer {layer} head {head}: the largest weights of query {query}, {texts(query)!r}:")
    for value, key in zip(values.tolist(), keys.tolist(), strict=True):
        print(f"  {value:.6f}  key {key}, {texts(key)!r}")
    if options.output:
        draw(layers[layer][:, head : head + 1], options.output, f"layer {layer} head {head}")
        print(f"wrote {options.output}")


def load(options: argparse.Namespace) -> tuple[torch.Tensor, Any, Any]:
    """The text's token ids, a function from a place to its token, and the model."""
    if options.model is None:
        # A token is a byte of the text: three of them for a long dash.
        with options.text.open("rb") as file:
            data = file.read(options.tokens)
        ids = torch.tensor(list(data), dtype=torch.long)
        return ids, lambda at: data[at : at + 1].decode("latin-1"), random_model(max(len(ids), 1))
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    text = options.text.read_text(encoding="utf-8")
    ids = tokenizer(text, truncation=True, max_length=options.tokens, return_tensors="pt").input_ids[0]
    model = AutoModel.from_pretrained(options.model, attn_implementation="sightline").eval()
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and len(ids) > limit:
        raise ValueError(f"--tokens {options.tokens}: {options.model} takes {limit} at most")
    return ids, lambda at: tokenizer.decode(ids[at]), model


def random_model(tokens: int) -> Any:
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=256, intermediate_size=688, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=tokens, initializer_range=0.1,
    )  # fmt: skip
    return LlamaModel._from_config(config, attn_implementation="sightline").eval().to(torch.bfloat16)


def place(at: int, count: int, option: str) -> int:
    if not -count <= at < count:
        raise ValueError(f"{option} {at}: there are {count}, 0 to {count - 1}")
    return at % count


def draw(matrix: sightline.AttentionMatrix, path: Path, title: str) -> None:
    """The largest weight of each cell: exact, computed tile by tile."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    _, _, queries, keys = matrix.shape
    cells = matrix.pool(min(PIXELS, queries), min(PIXELS, keys), reduce="max")[0, 0].numpy()
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel="key", ylabel="query")
    shades = LogNorm(1 / keys, 1, clip=True) if keys > 1 else None
    image = axes.imshow(cells, extent=(0, keys, queries, 0), norm=shades, cmap="magma", interpolation="none")
    figure.colorbar(image, label="largest weight of the cell")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=150)


if __name__ == "__main__":
    sys.exit(main())
