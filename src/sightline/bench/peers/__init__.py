"""The peers, by name. A new peer is a file here and a line in PEERS."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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
    "floor": "sightline.bench.peers.floor:StreamingRead",
}
"""Name of a peer to its class: ``module:class``."""

HIDDEN = ("floor",)
"""No attention: what is to be measured beside it."""


def load_peer(name: str) -> Peer:
    """The peer of that name; its library is imported no earlier than it prepares a case."""
    module, attribute = PEERS[name].split(":")
    peer: Peer = getattr(importlib.import_module(module), attribute)()
    return peer
