"""RXNMapper: atom maps and confidences that its own code reads off our matrices."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import rxnmapper.core
import torch
from rxnmapper.tokenization_smiles import BasicSmilesTokenizer, load_vocab
from torch.nn.utils.rnn import pad_sequence

from published.examples import Example, molecules, of_readme, of_tests
from published.line import Line, count, number
from sightline.huggingface import register

TOLERANCE = 1e-5  # as in RXNMapper's own tests


def lines(speech: Path | None) -> Iterator[Line]:
    """Every published reaction: its confidence; then all atom maps."""
    mapper = _mapper()
    mapped = []
    for example in _examples():
        (result,) = mapper.get_attention_guided_atom_maps(
            [example.reaction], canonicalize_rxns=example.canonical
        )
        yield number(
            f"confidence: {example.name}", example.confidence, result["confidence"], TOLERANCE, digits=8
        )
        mapped.append(molecules(result["mapped_rxn"]) == molecules(example.mapped))
    yield count("equal atom maps", f"{len(mapped)} of {len(mapped)}", mapped)


class _Tokens:
    """What RXNMapper asks of its tokenizer: a split by its own pattern, and a table."""

    cls_token, sep_token = "[CLS]", "[SEP]"

    def __init__(self, vocabulary: str, **_: Any) -> None:
        self.table = load_vocab(vocabulary)
        self.basic_tokenizer = BasicSmilesTokenizer()

    def batch_encode_plus(self, reactions: list[str], **_: Any) -> dict[str, torch.Tensor]:
        """Token ids and which of them are no padding, [B,N]."""
        rows = [torch.tensor([self._number(token) for token in self._tokens(one)]) for one in reactions]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.table["[PAD]"])
        return {
            "input_ids": ids,
            "attention_mask": pad_sequence([row.new_ones(len(row)) for row in rows], batch_first=True),
        }

    def _tokens(self, reaction: str) -> list[str]:
        return [self.cls_token, *self.basic_tokenizer.tokenize(reaction), self.sep_token]

    def _number(self, token: str) -> int:
        return int(self.table.get(token, self.table["[UNK]"]))


def _mapper() -> Any:
    rxnmapper.core.SmilesTokenizer = _Tokens
    register()
    mapper = rxnmapper.core.RXNMapper()
    mapper.model.set_attn_implementation("sightline")
    return mapper


def _examples() -> list[Example]:
    package = distribution("rxnmapper")
    readme = package.metadata.get_payload()  # type: ignore[attr-defined]
    tests = package.locate_file("tests/test_mapper.py")
    return of_readme(readme) + of_tests(Path(str(tests)).read_text(encoding="utf-8"))
