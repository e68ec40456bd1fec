"""How a client behaves, as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rankine.config import Frozen

__all__ = ["ClientSettings"]

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClientSettings(Frozen):
    """Settings of a client; the defaults are for rankings of milliseconds.

    Attributes:
        model: name of the model; without one, the servers' default model.
        headers: sent with every request, such as ``authorization``.
        ca_file: certificates (PEM) of the authorities that servers are trusted by; the system's own if None.
        certificate_file, key_file: the client's certificate and key (PEM), for servers that ask for one.
        deadline_s: for requests that name none.
        network_allowance_s: what the way to a server and back may take: a server is told that much less than remains.
        connect_timeout_s: after which a server that does not take a connection counts as dead.
        max_attempts: sends of one request, the first, retries and hedges together.
        retry_share: retries over requests, at most, in the long run. 0 turns retries off.
        retry_burst: retries that may be saved up, for the moment when a server dies.
        hedge_share: hedges over requests, at most, in the long run. 0 turns hedging off. It is above ``1 -
            hedge_quantile``: else what is slow every day would leave nothing for the day when a server freezes.
        hedge_burst: hedges that may be saved up.
        hedge_quantile: a request is sent a second time when it takes longer than this quantile of those of its size.
        half_life_s: what a server told of its load, and how fast it was, counts half after this time.
        eject_after: failures in a row after which a server is left out. A refused connection is enough by itself.
        eject_s: for how long, at first; then twice as long each time.
        max_eject_s: the longest time out; after as long in good health the next one is short again.
        spill_s: a session stays at its server while another would not be faster by more than this.
    """

    model: str | None = None
    headers: Mapping[str, str] = Field(default_factory=dict)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    deadline_s: Seconds = 1.0
    network_allowance_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.002
    connect_timeout_s: Seconds = 1.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    retry_share: Share = 0.1
    retry_burst: Annotated[int, Field(ge=1)] = 10
    hedge_share: Share = 0.1
    hedge_burst: Annotated[int, Field(ge=1)] = 10
    hedge_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    half_life_s: Seconds = 0.5
    eject_after: Annotated[int, Field(ge=1)] = 3
    eject_s: Seconds = 1.0
    max_eject_s: Seconds = 30.0
    spill_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
