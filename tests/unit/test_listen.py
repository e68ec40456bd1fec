"""Addresses that a server takes, or does not get, on real sockets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rankine.errors import UsageError
from rankine.serving import ServeConfig
from rankine.serving.listen import bind, reserve

CONFIG = ServeConfig(artifact=Path("x"), port=0, grpc_port=0)


def test_grpc_port_is_refused_when_another_server_of_the_same_user_shares_it() -> None:
    holder = reserve(CONFIG)
    assert holder is not None
    with holder, pytest.raises(UsageError, match=r"cannot listen: Address already in use.*--grpc-port"):
        reserve(CONFIG.model_copy(update={"grpc_port": holder.getsockname()[1]}))


def test_processes_of_one_server_share_the_grpc_port_when_it_is_reserved() -> None:
    holder = reserve(CONFIG)
    assert holder is not None
    address = holder.getsockname()
    with holder, socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            one.listen()
    again = reserve(CONFIG.model_copy(update={"grpc_port": address[1]}))  # they are gone
    assert again is not None
    again.close()


def test_http_port_is_refused_when_another_server_listens_there() -> None:
    with bind(CONFIG) as listener:
        listener.listen()
        with pytest.raises(UsageError, match=r"cannot listen: Address already in use.*--port"):
            bind(CONFIG.model_copy(update={"port": listener.getsockname()[1]}))


def test_host_is_refused_when_it_does_not_exist() -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        bind(CONFIG.model_copy(update={"host": "host.invalid"}))
