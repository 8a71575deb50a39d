"""Which tokenizers ``web/live/tokenizer/`` computes; any other is refused by name when a page is written."""

from __future__ import annotations

import json
from typing import Any

from sightline.common.errors import CommandError

_ANY = object()

#: By part and type, each option with its only value; an option that is not named is refused.
_KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "normalizer": {"NFC": {}, "Lowercase": {}, "Sequence": {"normalizers": _ANY}},
    "pre_tokenizer": {
        "Sequence": {"pretokenizers": _ANY},
        "Metaspace": {"replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "Punctuation": {"behavior": "Isolated"},
        "BertPreTokenizer": {},
        "ByteLevel": {"add_prefix_space": False, "trim_offsets": _ANY, "use_regex": True},
        "Split": {"pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False},
    },
    "decoder": {
        "Metaspace": {"replacement": "\u2581", "prepend_scheme": "always", "split": _ANY},
        "ByteLevel": {"add_prefix_space": _ANY, "trim_offsets": _ANY, "use_regex": _ANY},
        "Fuse": {},
    },
    "model": {
        "BPE": {
            "vocab": _ANY, "merges": _ANY, "unk_token": _ANY, "dropout": None, "fuse_unk": False,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False,
            "ignore_merges": False,
        },
        "WordLevel": {"vocab": _ANY, "unk_token": _ANY},
    },
}  # fmt: skip

_WHOLE = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def tokenizer_parts(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer.json of a ``tokenizers.Tokenizer``, if a page can run it.

    Raises:
        CommandError: it has a part or an option that the page's runtime does not compute, by its name.
    """
    whole: dict[str, Any] = json.loads(tokenizer.to_str())
    for name, value in _WHOLE.items():
        if whole.get(name) != value:
            raise _refused(name, whole.get(name), repr(value))
    for name in _KINDS:
        _check_part(name, whole.get(name))
    for token in whole.get("added_tokens") or []:
        for flag in _FLAGS:
            if token.get(flag):
                raise _refused(f"{flag} of the added token {token['content']}", True, "False")
    return whole


def _check_part(name: str, part: Any) -> None:
    if part is None and name != "model":
        return
    kinds = _KINDS[name]
    kind = part.get("type")
    if kind not in kinds:
        raise _refused(f"{name}.type", kind, ", ".join(kinds))
    for option, value in part.items():
        if option == "type":
            continue
        if option not in kinds[kind]:
            raise _refused(f"{name}.{option}", value, "no such option")
        known = kinds[kind][option]
        if known is not _ANY and value != known:
            raise _refused(f"{name}.{option}", value, repr(known))
    for step in part.get("normalizers") or part.get("pretokenizers") or []:
        _check_part(name, step)


def _refused(name: str, found: Any, known: str) -> CommandError:
    text = repr(found)
    shown = text if len(text) <= 80 else f"{text[:79]}…"
    return CommandError(f"the tokenizer's {name} is {shown}, and a page knows {known}")
