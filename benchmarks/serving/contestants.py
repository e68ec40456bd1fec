"""All servers that are compared, by name."""

from __future__ import annotations

from collections.abc import Mapping

from serving.peers.bento import BENTO
from serving.peers.fast_api import FAST_API, FAST_API_TUNED
from serving.peers.own import OWN
from serving.peers.peer import Peer
from serving.peers.triton_server import TRITON
from serving.peers.window import WINDOW

CONTESTANTS: Mapping[str, Peer] = {peer.name: peer for peer in (OWN, WINDOW, TRITON, BENTO, FAST_API, FAST_API_TUNED)}
