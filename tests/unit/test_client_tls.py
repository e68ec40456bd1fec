"""The client over TLS, with authorities of its own and a certificate of its own."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import end_without
from rankine.client import AsyncClient, Client, ClientSettings, ServerUnreachable
from rankine.errors import UsageError
from unit.client_server import TestServer

if shutil.which("openssl") is None:
    end_without("certificates are made with openssl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates that sign themselves: ``server.pem`` and ``client.pem``, with their keys."""
    path = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(path / f"{name}.key"), "-out", str(path / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def settings(folder: Path, *files: str) -> ClientSettings:
    """With these fields, each naming its file."""
    known: Mapping[str, Any] = {
        "ca_file": folder / "server.pem",
        "certificate_file": folder / "client.pem",
        "key_file": folder / "client.key",
    }
    return ClientSettings(deadline_s=20, **{name: known[name] for name in files})


def test_rank_needs_authority_and_certificate_when_the_server_asks_for_both(folder: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "client.pem")
    tls.load_cert_chain(folder / "server.pem", folder / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED

    async def test() -> None:
        async with TestServer(tls=tls) as server:
            for some in ((), ("ca_file",), ("certificate_file", "key_file")):
                async with AsyncClient([server.url], settings(folder, *some)) as client:
                    with pytest.raises(ServerUnreachable):
                        await client.rank({}, [1])
            assert server.received == []
            async with AsyncClient([server.url], settings(folder, "ca_file", "certificate_file", "key_file")) as client:
                assert (await client.rank({}, [1])).server == server.url

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "grpcs://127.0.0.1:1"])
def test_client_is_refused_when_a_certificate_cannot_be_read(folder: Path, url: str) -> None:
    with pytest.raises(UsageError, match="cannot be read as a certificate"):
        Client([url], ClientSettings(ca_file=folder / "nowhere.pem"))
