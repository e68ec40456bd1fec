"""What a server is started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from rankine.config import Frozen
from rankine.policy.batching import Limits

__all__ = ["PoolDeviceConfig", "ServeConfig"]


class PoolDeviceConfig(Frozen):
    """A device of a pool.

    Attributes:
        engine: that runs the variant, or every rung of the ladder; each must be certified or admitted on it.
        device: of the engine; None for the one that its build was verified on.
        threads: inside one engine call.
        workers: engine calls at the same time.
        cores: that it keeps to, by number; all of the process if None.
        options: of the engine itself, where it has any, as text: ``{"launch_us": "300"}`` of the simulated accelerator.
    """

    engine: str
    device: str | None = None
    threads: int = Field(1, ge=1, le=1024)
    workers: int = Field(1, ge=1, le=256)
    cores: tuple[int, ...] | None = Field(None, min_length=1)
    options: Mapping[str, str] = Field(default_factory=dict)


class ServeConfig(Frozen):
    """Settings of one server process.

    Attributes:
        artifact: folder of the artifact.
        catalog: folder of the catalog; ``<artifact>.catalog`` if None.
        catalog_refresh_s: how often the server looks for a newer generation of the catalog; never if 0.
        host, port: where to listen; port 0 takes a free one, which the ready event names.
        grpc_port: where gRPC listens, on the same host; 0 takes a free one; no gRPC if None.
        tls_cert, tls_key: PEM files of the certificate chain and of its key: both transports then speak TLS only.
        tls_client_ca: PEM file of who signs clients' certificates, which they must then show (mutual TLS).
        api_keys: file of the keys that may ask, see :mod:`rankine.serving.security`; if None, everybody may.
        policy: file of the rules about tenants, see :mod:`rankine.serving.tenants`; no rules if None.
        truncate_by_prior: of requests that bring prior scores, at least so many of the best candidates are scored under
            pressure, instead of all; None: always all, unless the policy says otherwise.
        variant, engine: what to serve; what the artifact's plan recommends if None.
        floor: largest margin, in AUC, of the variants that may answer: under load the server steps down the artifact's
            ladder so far before it refuses a request. None: it serves one variant.
        device: of the engine; None for the one that its build was verified on.
        split: serve the variant in parts where it was built so; False: always the whole graph.
        allow_uncertified: serve although no passed certificate covers the variant on the engine.
        threads: threads inside one engine call.
        workers: engine calls at the same time.
        device_pool: several devices that share the work, each with its own engine, device, threads and workers: every
            batch goes where it is predicted to be done first. One device, as above, if empty.
        remote: addresses of other servers that run batches beside the devices here, over the Open Inference Protocol:
            they must serve the same variant under ``NAME.batch``. What they do not answer runs here.
        remote_workers: batches that each of them is sent at the same time.
        remote_timeout_ms: longest that one may take to answer.
        processes: of the server, each with its own front end and workers; several have a supervisor.
        start_limit_s: of several processes, one that starts is replaced where one step of its start takes so long.
        isolate: engine calls run in worker processes, which are replaced when they die, hang or get slow.
        spare_workers: worker processes of each device that wait, opened and warm, to replace one.
        worker_hang_s: a worker process counts as hung without an answer for so long, or for 20 times what its batch is
            predicted to take at most.
        cores: cores that the server may use, by number; all if None. Several processes divide them.
        max_candidates: most candidates (or flat rows) of one request.
        max_connections: most connections at a time, of each transport.
        max_read_s: most seconds from the start of a request to its last byte.
        max_body_bytes: most bytes of a request body as sent; in gRPC of a message, decompressed too.
        max_decompressed_bytes: most bytes of it after decompression.
        max_batch_rows: requests that wait are joined up to this many rows; a larger request is split.
        max_batch_ms: no batch is predicted to run longer, unless half of the peak rate needs more: an urgent request
            waits for it.
        max_queue_rows: rows that may wait; above it requests are refused (503).
        max_wait_ms: how long a request without a deadline may be predicted to take before it is refused; while the
            queue stands, four tenths of that to wait.
        default_deadline_ms: for requests that bring none; no deadline if None.
        unknown_item: an id that the catalog does not have is an ``error``, or scored as the out-of-vocabulary ``row``.
        drain_s: after SIGTERM, the server says that it is not ready but takes all requests for this long; give it more
            than the interval of a load balancer's probe.
        target_utilization: share of its workers' time that a host should be busy: what it asks of an autoscaler.
        log_requests: one JSON line on stderr a request.
    """

    artifact: Path
    catalog: Path | None = None
    catalog_refresh_s: float = Field(1.0, ge=0, le=86_400)
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    grpc_port: int | None = Field(None, ge=0, le=65535)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    api_keys: Path | None = None
    policy: Path | None = None
    truncate_by_prior: int | None = Field(None, ge=1)
    variant: str | None = None
    engine: str | None = None
    floor: float | None = Field(None, gt=0, le=1)
    device: str | None = None
    split: bool = True
    allow_uncertified: bool = False
    threads: int = Field(1, ge=1, le=1024)
    workers: int = Field(1, ge=1, le=256)
    device_pool: tuple[PoolDeviceConfig, ...] = ()
    remote: tuple[str, ...] = ()
    remote_workers: int = Field(1, ge=1, le=256)
    remote_timeout_ms: float = Field(1000.0, gt=0, le=600_000)
    processes: int = Field(1, ge=1, le=256)
    start_limit_s: float = Field(300.0, gt=0, le=86_400)
    isolate: bool = False
    spare_workers: int = Field(1, ge=0, le=16)
    worker_hang_s: float = Field(1.0, gt=0, le=3600)
    cores: tuple[int, ...] | None = None
    max_candidates: int = Field(10_000, ge=1)
    max_connections: int = Field(10_000, ge=1)
    max_read_s: float = Field(60.0, gt=0, le=3600)
    max_body_bytes: int = Field(16 << 20, ge=1024)
    max_decompressed_bytes: int = Field(16 << 20, ge=1024)
    max_batch_rows: int = Field(2048, ge=1)
    max_batch_ms: float = Field(20.0, gt=0, le=60_000)
    max_queue_rows: int = Field(65_536, ge=1)
    max_wait_ms: float = Field(10_000.0, gt=0, le=3_600_000)
    default_deadline_ms: float | None = Field(None, gt=0)
    unknown_item: Literal["error", "row"] = "error"
    drain_s: float = Field(0.5, ge=0, le=600)
    target_utilization: float = Field(0.7, gt=0, le=1)
    log_requests: bool = False

    @property
    def limits(self) -> Limits:
        """What the scheduler is bounded by."""
        return Limits(
            max_batch_rows=self.max_batch_rows,
            max_batch_s=self.max_batch_ms / 1000,
            max_queue_rows=self.max_queue_rows,
            max_wait_s=self.max_wait_ms / 1000,
        )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("`tls_cert` and `tls_key` go together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("`tls_client_ca` needs `tls_cert` and `tls_key`: clients show certificates over TLS only")
        return self

    @model_validator(mode="after")
    def _devices_choose(self) -> Self:
        own = {"engine": None, "device": None, "threads": 1, "workers": 1}
        given = [name for name, usual in own.items() if self.device_pool and getattr(self, name) != usual]
        if given:
            raise ValueError(f"`device_pool`: each device has its own `{given[0]}`: give it there")
        return self

    @field_validator("remote")
    @classmethod
    def _remotes_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not _is_address(url):
                raise ValueError(f"'{url}' is no address of a server, such as http://127.0.0.1:8000")
        if len({url.rstrip("/") for url in value}) < len(value):
            raise ValueError("a server is named twice")
        return value

    @model_validator(mode="after")
    def _remotes_serve_one_variant(self) -> Self:
        if self.remote and self.floor is not None:
            raise ValueError("`floor` may change the variant, and those of `remote` serve one: leave one of them out")
        return self

    @model_validator(mode="after")
    def _remotes_have_options(self) -> Self:
        for name in ("remote_workers", "remote_timeout_ms"):
            if not self.remote and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` is about other servers: name them with `remote`, or leave it out")
        return self

    @model_validator(mode="after")
    def _processes_divide_cores(self) -> Self:
        if self.processes > 1 and any(device.cores is not None for device in self.device_pool):
            raise ValueError("`processes` divide the cores: leave `cores` out of the devices of `device_pool`")
        return self

    @model_validator(mode="after")
    def _floor_chooses(self) -> Self:
        if self.floor is not None and (self.variant is not None or self.engine is not None):
            raise ValueError("`floor` chooses among the ladder's variants: leave `variant` and `engine` out")
        return self

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.max_queue_rows < self.max_candidates:
            raise ValueError("`max_queue_rows` is below `max_candidates`: the largest request could never queue")
        return self


def _is_address(url: str) -> bool:
    """Of a server: a scheme, a host, and perhaps a port and a path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number or too large, brackets without an address
        return False
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.username or port == 0)
    )
