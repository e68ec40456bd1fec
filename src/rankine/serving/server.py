"""``serve``: open the model, listen, answer, and leave without losing a request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import uvicorn

from rankine.certification.standing import NOT_CERTIFIED
from rankine.events import Emit, Note, ignore, step
from rankine.serving.app import App
from rankine.serving.beat import Beat
from rankine.serving.config import ServeConfig
from rankine.serving.cores import pin
from rankine.serving.descriptors import bounded, none_is_left, raise_limit
from rankine.serving.devices import PoolDevice
from rankine.serving.door import Door
from rankine.serving.gentle_close import ignore_new_connections
from rankine.serving.grpc import check_grpc, open_grpc
from rankine.serving.handed import HandedProtocol
from rankine.serving.heads import LimitedProtocol
from rankine.serving.isolation.isolate import isolate_devices
from rankine.serving.listen import bind, cannot_listen, several
from rankine.serving.logs import LOGGER, set_up_logs
from rankine.serving.metrics import ServerMetrics
from rankine.serving.model import ServedModel, open_model, warn_of_memory
from rankine.serving.pool import Pool
from rankine.serving.process import ServerProcess
from rankine.serving.refresh import Refresher
from rankine.serving.remote.open import open_remotes
from rankine.serving.rung_log import RungLog, tell_ladder
from rankine.serving.seldom import Seldom
from rankine.serving.stop_signals import is_in_a_hurry, stop_signals
from rankine.serving.tls import tls_context
from rankine.serving.warm import warm_works

if TYPE_CHECKING:
    from rankine.serving.grpc.server import GrpcServer

__all__ = ["serve", "serve_process"]

_POLL_S = 0.02
_GARBAGE = 20_000
"""Objects between two looks for cycles: requests leave none behind, and each look goes over all that are under way."""
_BACKLOG = 2048
_BACKLOG_S = 0.1
"""After new connections are ignored: for handshakes under way, and for accepting what is in the backlog."""
_FIRST_REQUEST_S = 1.0
"""After the listener is closed: for the first request of a client that has just connected."""
_STALL_CHECK_TICKS = 10
"""The HTTP server ticks ten times a second."""
_LEAVE_S = 20
"""After draining, how long to wait for clients that are still in the middle of sending a body."""


def serve(config: ServeConfig, emit: Emit = ignore) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and return.

    On a signal ``/v2/health/ready`` turns 503. For ``drain_s`` seconds all requests are still taken, also on new
    connections, with ``connection: close`` in their replies; then the server stops listening. Every request that was
    taken is answered before this function returns.

    With ``processes`` above 1 other processes do this, and this one looks after them, see
    :mod:`~rankine.serving.supervisor`.

    Emits a ``Note`` of task ``serve`` with figures ``url`` and ``port``, and ``grpc_port`` where there is gRPC, once
    it answers.

    Raises:
        CertificateRequired, ArtifactError, EngineMissing: see :func:`~rankine.serving.model.open_model`.
        UsageError: the address cannot be listened on, a core does not exist, or there are too few file descriptors.
    """
    raise_limit(config)
    if config.processes > 1:
        from rankine.serving.supervisor import supervise

        supervise(config, emit)
        return
    if config.cores is not None:
        pin(config.cores)
    tls = tls_context(config)
    with bind(config) as listener:  # an address that is taken is told before the model is opened
        check_grpc(config)
        _serve_on(config, tls, listener, None, emit)


def serve_process(config: ServeConfig, process: ServerProcess, listener: socket.socket, emit: Emit) -> None:
    """Serve as one of several processes, on the socket that all of them listen on; otherwise as :func:`serve`."""
    if config.cores is not None:
        pin(config.cores)
    with listener:
        _serve_on(config, tls_context(config), listener, process, emit)


def _serve_on(
    config: ServeConfig, tls: ssl.SSLContext | None, listener: socket.socket, process: ServerProcess | None, emit: Emit
) -> None:
    with contextlib.ExitStack() as leave:
        model = open_model(config, emit)
        set_up_logs(process=None if process is None else process.number)
        metrics = ServerMetrics()
        metrics.describe(model)
        devices = model.devices
        if config.isolate:
            devices = isolate_devices(model, config, metrics.lost_worker)
            metrics.watch_workers(lambda: sum(device.seats.up for device in devices if device.seats is not None))
        if config.remote:
            here = devices or (PoolDevice(model.choice.engine, model.rungs, config.workers),)
            devices = (*here, *open_remotes(model, config))
            model = replace(model, devices=devices)
            metrics.watch_remotes(devices)
        config = bounded(config)
        pool = Pool(
            model.rungs,
            tasks=len(model.schema.tasks),
            workers=config.workers,
            limits=config.limits,
            observe=metrics.ran,
            decided=metrics.decided,
            would=metrics.would_refuse,
            devices=devices,
        )
        app = App(config, model, pool, metrics, process)
        leave.callback(app.close)
        leave.callback(pool.close)
        with step(emit, "warm up"):
            pool.start(warm_works(model, config.max_candidates))
        if model.catalog is not None and config.catalog_refresh_s:
            refresher = Refresher(model.catalog, config.catalog_refresh_s, metrics.holds)
            leave.callback(refresher.close)  # before the pool frees the runner, which completes items
            refresher.start()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(app, tls, listener, emit))


async def _serve(app: App, tls: ssl.SSLContext | None, listener: socket.socket, emit: Emit) -> None:
    async with open_grpc(app) as grpc:
        await _serve_http(app, tls, grpc, listener, emit)


async def _serve_http(
    app: App, tls: ssl.SSLContext | None, grpc: GrpcServer | None, listener: socket.socket, emit: Emit
) -> None:
    def on_ready() -> None:
        # What lives now lives until the end: the collector need not look at it again in the middle of a request.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        app.open = True
        app.reception.lag.start()
        app.busy.start()
        if beat is not None:
            beat.start()
        if app.config.floor is not None:
            tell_ladder(app.model.rungs, app.pool.rungs_in_use, app.config.floor)
            RungLog(app.model.rungs, lambda: app.pool.rung).start()
        _announce(app.model, "http" if tls is None else "https", listener, grpc, emit)

    beat = None if app.process is None else Beat(app, app.process)
    server = _Server(app, tls, on_ready)
    draining: set[asyncio.Task[None]] = set()

    alone = False

    def on_signal(number: int) -> None:
        nonlocal alone
        if draining and not is_in_a_hurry(number):
            return
        others_stay = app.process is not None and not app.process.board.leaving
        if alone and not others_stay:  # it drains by itself, and now all others do too: nobody is in a hurry
            alone = False
            return
        if draining:  # a second signal: do not wait for anybody
            server.should_exit = server.force_exit = True
            return
        alone = others_stay
        reason = signal.Signals(number).name
        draining.add(asyncio.get_running_loop().create_task(_drain(app, server, grpc, listener, reason)))

    _on_signals(on_signal)
    begun_s = perf_counter()
    try:
        await server.serve(sockets=several(listener))
        seconds = {"seconds": round(perf_counter() - begun_s, 3)}
        LOGGER.info("stopped", extra={"fields": {**app.metrics.totals, **seconds}})
    finally:
        if beat is not None:
            beat.stop()
        if app.neighbors is not None:
            app.neighbors.close()


async def _drain(app: App, server: _Server, grpc: GrpcServer | None, listener: socket.socket, reason: str) -> None:
    LOGGER.info("draining", extra={"fields": {"reason": reason}})
    app.open = False
    app.leaving = True
    # New connections are still taken for a while: a load balancer must be able to see that this server is not ready.
    await asyncio.sleep(app.config.drain_s)
    if app.process is None or app.process.board.leaving:  # else others go on taking them
        ignore_new_connections(listener)
    await asyncio.sleep(_BACKLOG_S)
    for listening in getattr(server, "servers", ()):  # none yet, where the signal came while it started
        listening.close()
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + _FIRST_REQUEST_S
    while now_s() < end_s and server.has_fresh_connections:
        await asyncio.sleep(_POLL_S)
    if grpc is not None:
        await grpc.stop(_LEAVE_S)
    app.pool.drain()
    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn in this process, with its signal handling left to us: it would end with the signal, not with status 0."""

    def __init__(self, app: App, tls: ssl.SSLContext | None, on_ready: Callable[[], None]) -> None:
        self._app = app
        self._handed: set[HandedProtocol] = set()
        app.connections = lambda: len(self.server_state.connections) - len(self._handed)
        application: Any = app
        limits = app.config
        door = Door(app)
        if tls is None:
            door.open_inlet()
        protocol: Any = partial(
            LimitedProtocol, max_connections=limits.max_connections, max_read_s=limits.max_read_s, door=door
        )
        super().__init__(
            uvicorn.Config(
                application,
                http=protocol,
                ssl_context_factory=None if tls is None else lambda config, default: tls,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_LEAVE_S,
            )
        )
        self._on_ready = on_ready
        self._no_descriptor = Seldom("no file descriptor is left: connections are cut", every_s=60.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def has_fresh_connections(self) -> bool:
        """Whether a client has connected whose first request is not here yet."""
        return any(isinstance(one, LimitedProtocol) and one.fresh for one in self.server_state.connections)

    async def _take_from_neighbors(self) -> None:
        """Listen where other processes of the host hand requests over."""
        process, limits = self._app.process, self._app.config
        if process is None:
            return
        door = Door(self._app, final=True)
        path = process.socket_of(process.number)
        path.unlink(missing_ok=True)  # of a process that ended without a word

        def connected() -> HandedProtocol:
            return HandedProtocol(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                max_connections=2 * limits.max_connections,  # its clients have been let in where they connected
                max_read_s=limits.max_read_s,
                door=door,
                together=self._handed,
            )

        listening = await asyncio.get_running_loop().create_unix_server(connected, path, backlog=_BACKLOG)
        self.servers.append(listening)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets=sockets)
        except OSError as error:  # another process has bound the same port and listens since
            host, port = sockets[0].getsockname()[:2] if sockets else ("", 0)
            raise cannot_listen(error, host, port) from None
        await self._take_from_neighbors()
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if counter % _STALL_CHECK_TICKS == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, LimitedProtocol):
                    connection.close_if_stalled(now_s)
            if none_is_left():
                self._no_descriptor.warn({"connections": len(self.server_state.connections)})
        return await super().on_tick(counter)


def _announce(model: ServedModel, scheme: str, listener: socket.socket, grpc: GrpcServer | None, emit: Emit) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}"
    choice = model.choice
    also = {} if grpc is None else {"grpc_port": grpc.port}
    over_grpc = "" if grpc is None else f", over gRPC at {shown}:{grpc.port}"
    engine = "+".join(device.rungs[0].engine for device in model.devices) or choice.engine
    right = NOT_CERTIFIED if not model.certified else "certified" if len(model.devices) > 1 else choice.told
    told = f"{model.name} ({choice.variant} on {engine}, {right}) answers at {url}{over_grpc}"
    emit(Note("serve", told, {"url": url, "port": port, **also}))
    served = {"model": model.name, "variant": choice.variant, "engine": engine, "pid": os.getpid()}
    LOGGER.info("ready", extra={"fields": {"url": url, **also, **served}})
    if not choice.certified:
        LOGGER.warning("served without a certificate", extra={"fields": {"variant": choice.variant}})
    warn_of_memory(model)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _on_signals(handle: Callable[[int], None]) -> None:
    """React to what should end it; a server in another thread than the main one cannot, and is ended by its owner."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, handle, number)
