"""What the server counts, for Prometheus; a registry of its own, so that two servers in one process do not mix."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from time import perf_counter

from prometheus_client import CollectorRegistry, Gauge, Info, generate_latest

from rankine import __version__
from rankine.policy.autoscale import Refusals
from rankine.policy.reason import Reason
from rankine.serving.devices import PoolDevice
from rankine.serving.items import Items
from rankine.serving.model import ServedModel
from rankine.serving.running import BatchRun
from rankine.serving.tallies import Counts, Distribution

__all__ = ["INFERENCE", "METRICS_TYPE", "ServerMetrics"]

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2, 4)
_STATUSES = {status.value: str(status.value) for status in HTTPStatus}
INFERENCE = ("rank", "oip", "rank-grpc", "oip-grpc")
"""Labels of requests that are for the engine: not probes, nor what a person looks at."""
_OUTCOMES = {"200": "answered", "429": "refused", "503": "refused", "504": "refused", "499": "left"}
_REQUESTS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class ServerMetrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counts("rankine_requests", "Answered requests", ("protocol", "status"), registry=self.registry)
        self._latency = Distribution(
            "rankine_request_seconds", "From the request's head to its reply", _SECONDS, ("protocol",),
            registry=self.registry,
        )  # fmt: skip
        self._queue_rows = Gauge("rankine_queue_rows", "Rows that wait", registry=self.registry)
        self._batch_rows = Distribution("rankine_batch_rows", "Rows a batch", _ROWS, registry=self.registry)
        self._batch_requests = Distribution(
            "rankine_batch_requests", "Requests a batch", _REQUESTS, registry=self.registry
        )
        self._queue = Distribution(
            "rankine_queue_seconds", "From the queue to the start of its batch", _SECONDS, registry=self.registry
        )
        self._run = Distribution("rankine_run_seconds", "One batch, joined and run", _SECONDS, registry=self.registry)
        self._decisions = Counts(
            "rankine_decisions", "Decisions of the scheduler on requests and batches, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self._error = Distribution(
            "rankine_prediction_error", "Time of a batch over what was predicted", _RATIOS, ("device",),
            registry=self.registry,
        )  # fmt: skip
        self._placements = Counts(
            "rankine_placements", "Batches, and parts of divided requests, by device of a pool and reason",
            ("device", "reason"), registry=self.registry,
        )  # fmt: skip
        self._generation = Gauge(
            "rankine_catalog_generation", "Generation that new requests are ranked by; 0 without a catalog",
            registry=self.registry,
        )  # fmt: skip
        self._items = Gauge("rankine_catalog_items", "Items in that generation", registry=self.registry)
        self._rungs = Counts(
            "rankine_variant_requests", "Requests ranked by each variant", ("variant",), registry=self.registry
        )
        self._debt = Gauge(
            "rankine_quality_debt", "Certified upper bound of the AUC given up by the variants in use, last minute",
            registry=self.registry,
        )  # fmt: skip
        self._truncated = Counts(
            "rankine_unscored_candidates", "Candidates left out by their prior scores, under pressure",
            registry=self.registry,
        )  # fmt: skip
        self._dry_run = Counts(
            "rankine_dry_run", "What rules that are not in force would have refused, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self._refusals = Refusals()
        self._counting = threading.Lock()
        self._restarts = Counts(
            "rankine_worker_restarts", "Worker processes that were lost and replaced, by reason", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self._names: tuple[str, ...] = ()
        self._info = Info("rankine_model", "What is served", registry=self.registry)

    def describe(self, model: ServedModel) -> None:
        """Publish what is served, once it is known."""
        self._names = tuple(rung.variant for rung in model.rungs)
        if model.items is not None:
            self.holds(model.items)
        self._info.info(
            {
                "rankine": __version__,
                "model": model.name,
                "artifact": model.artifact.digest,
                "variant": model.choice.variant,
                "engine": model.choice.engine,
                "certified": str(model.choice.certified).lower(),
            }
        )

    def holds(self, items: Items) -> None:
        """Tell which items new requests are ranked by."""
        self._generation.set(items.generation)
        self._items.set(len(items))

    def answered(self, protocol: str, status: int, seconds: float) -> None:
        """Count a reply."""
        self._requests.add(protocol, _STATUSES.get(status) or str(status))
        self._latency.observe(seconds, protocol)

    def ran(self, batch: BatchRun) -> None:
        """Count an engine call, and how long its requests waited for it."""
        for queue_s in batch.queue_s:
            self._queue.observe(queue_s)
        self._batch_rows.observe(batch.rows)
        self._batch_requests.observe(batch.requests)
        self._run.observe(batch.run_s)
        self.decided(batch.reason)
        if self._names:
            self._rungs.add(self._names[batch.rung], count=batch.first)
        self._debt.set(batch.debt)
        if batch.predicted_s > 0:
            self._error.observe(batch.spent_s / batch.predicted_s, batch.device)
        if batch.placed is not None:
            self._placements.add(batch.device, batch.placed.value)

    def decided(self, reason: Reason) -> None:
        """Count why a request was let in, refused or dropped, or why a batch ended where it did."""
        self._decisions.add(reason.value)
        with self._counting:
            self._refusals.add(reason, perf_counter())

    def watch_workers(self, up: Callable[[], int]) -> None:
        """Publish how many worker processes can run a batch, where there are any."""
        gauge = Gauge("rankine_workers_up", "Worker processes that can run a batch", registry=self.registry)
        gauge.set_function(up)

    def watch_remotes(self, devices: Sequence[PoolDevice]) -> None:
        """Publish which other servers are in use, where there are any."""
        text = "Whether another server that runs batches is in use"
        gauge = Gauge("rankine_remote_up", text, ["device"], registry=self.registry)
        for device in devices:
            if device.elsewhere is not None:
                gauge.labels(device.name).set_function(partial(getattr, device, "up"))

    def lost_worker(self, reason: str) -> None:
        """Count a worker process that is replaced."""
        self._restarts.add(reason)

    @property
    def shed(self) -> float:
        """Share of the requests of the last minute that was refused for want of capacity."""
        with self._counting:
            return self._refusals.share(perf_counter())

    @property
    def totals(self) -> Mapping[str, int]:
        """Requests for inference since the start: ``answered``, ``refused`` for want of capacity, a quota or time,
        ``failed`` by the client's fault or the server's, ``left`` by their clients."""
        found = dict.fromkeys(("answered", "refused", "failed", "left"), 0)
        for sample in next(iter(self._requests.collect())).samples:
            if sample.name.endswith("_total") and sample.labels["protocol"] in INFERENCE:
                found[_OUTCOMES.get(sample.labels["status"], "failed")] += int(sample.value)
        return found

    def would_refuse(self, reason: Reason) -> None:
        """Count what the operator's rules would have done, were they in force."""
        self._dry_run.add(reason.value)

    def truncated(self, unscored: int) -> None:
        """Count a request of which only the best candidates by their prior scores were scored."""
        self.decided(Reason.TRUNCATED)
        self._truncated.add(count=unscored)

    def render(self, queued_rows: int) -> bytes:
        """The text that Prometheus scrapes."""
        self._queue_rows.set(queued_rows)
        return generate_latest(self.registry)
