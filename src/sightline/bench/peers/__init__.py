"""The peers, by name. A new one is a file here and a line in PEERS."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.bench.peers.peer import Peer

PEERS: dict[str, str] = {
    "sightline": "sightline.bench.peers.ours:Sightline",
    "sdpa": "sightline.bench.peers.sdpa:Sdpa",
    "eager": "sightline.bench.peers.eager:Eager",
    "flex": "sightline.bench.peers.flex:Flex",
    "ort-mha": "sightline.bench.peers.ort_mha:OrtMultiHeadAttention",
    "ort-attention": "sightline.bench.peers.ort_attention:OrtAttention",
    "openvino": "sightline.bench.peers.openvino:OpenVino",
    "jax": "sightline.bench.peers.jax:Jax",
    "zentorch": "sightline.bench.peers.zentorch:ZenTorch",
    "floor": "sightline.bench.peers.floor:StreamingRead",
}
"""Name of a peer to its class: ``module:class``."""

HIDDEN = ("floor",)
"""Not attention, but measured beside it."""


def load_peer(name: str) -> Peer:
    """The peer with this name; its library is imported only when it prepares a case."""
    peer: Peer = load_contender(PEERS[name])
    return peer


def load_contender(path: str) -> Any:
    """An instance of the class ``module:class``."""
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)()
