"""The model of Triton's python backend: one form of an artifact, run by an engine of Rankine in Triton's stub process.

Triton's own batcher joins requests whose tensors all begin with the same batch dimension. A ranking request has other
shapes (one row of the user, N of the candidates), so requests are handed over one by one, and join here by the policies
that ``rankine serve`` follows: where others wait, a request is queued and ``execute`` returns; the worker that ran its
batch answers it.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import triton_python_backend_utils as triton

from rankine.config import parse
from rankine.errors import RankineError
from rankine.serving.logs import LOGGER, set_up_logs
from rankine.serving.model import open_model
from rankine.serving.pool import Pool
from rankine.serving.protocols.oip import Inference, OipModel, oip_models
from rankine.serving.protocols.oip_tensors import InferBody, TensorReader
from rankine.serving.refresh import Refresher
from rankine.serving.results import as_error
from rankine.serving.triton.settings import TritonSettings
from rankine.serving.triton.tensors import drop_renamed_capsules, read_tensor, refuse_strings, tensor_of
from rankine.serving.warm import warm_works
from rankine.serving.work import Outcome

__all__ = ["TritonPythonModel"]

_TOP_K = "top_k"
_GARBAGE = 20_000
"""Objects between two looks for cycles: requests leave none behind."""
_PAUSE_S = 1e-4
"""Triton hands over a request that has waited sooner than this after the one before."""
_CODES = {
    400: "INVALID_ARG",
    404: "NOT_FOUND",
    413: "INVALID_ARG",
    429: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}


class TritonPythonModel:
    """Named and shaped as the python backend wants it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open and warm up what the configuration names."""
        config = json.loads(args["model_config"])
        told = {name: value["string_value"] for name, value in config["parameters"].items() if name in _SETTINGS}
        settings = parse(TritonSettings, told, source="config.pbtxt: parameters")
        set_up_logs()
        sys.unraisablehook = drop_renamed_capsules
        served = settings.serve_config(Path(args["model_repository"]))
        model = open_model(served)
        self._form: OipModel = oip_models(model, max_candidates=served.max_candidates)[args["model_name"]]
        described = self._form.metadata()
        self._datatypes = {spec["name"]: spec["datatype"] for spec in described["inputs"]}
        if any(spec["datatype"] == "BYTES" for spec in (*described["inputs"], *described["outputs"])):
            refuse_strings(triton)
        self._pool = Pool(
            model.rungs,
            tasks=len(model.schema.tasks),
            workers=served.workers,
            limits=served.limits,
            observe=_nothing,
        )
        self._pool.start(warm_works(model, served.max_candidates))
        self._pool.without_loop()
        self._returned_s = 0.0
        self._refresher = None
        if model.catalog is not None and served.catalog_refresh_s:
            self._refresher = Refresher(model.catalog, served.catalog_refresh_s, _nothing)
            self._refresher.start()
        # What lives now lives until the end: the collector need not look at it again in the middle of a request.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        ready = {"model": args["model_name"], "variant": model.choice.variant, "engine": model.choice.engine}
        LOGGER.info("ready", extra={"fields": ready})

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """Answer a request, or queue it: then :class:`_Reply` answers it when its batch has run.

        One that comes after a pause runs here, at once. Where Triton has the next one at hand as soon as one is done,
        others wait in its own queue, and are better together in ours.
        """
        [request] = requests  # max_batch_size is 0
        alone = perf_counter() - self._returned_s > _PAUSE_S
        reply = _Reply(self._form, request)
        try:
            inference = reply.inference = self._prepare(request)
            inference.work.future = reply
            if not (alone and self._pool.run_alone(inference.work)):
                reply.send_later()
                self._pool.queue(inference.work)
        except Exception as error:  # noqa: BLE001  told to whoever asked
            reply.set_exception(error)
        self._returned_s = perf_counter()
        return None if reply.response is None else [reply.response]

    def finalize(self) -> None:
        """Answer what waits, and free the engine."""
        if self._refresher is not None:
            self._refresher.close()
        self._pool.close()

    def _prepare(self, request: Any) -> Inference:
        arrived_s = perf_counter()
        reader = TensorReader(self._form.limits)
        for tensor in request.inputs():
            read_tensor(reader, tensor, self._datatypes[tensor.name()])
        parameters = json.loads(request.parameters() or "{}")
        given = {_TOP_K: parameters[_TOP_K]} if _TOP_K in parameters else {}
        outputs = [{"name": name} for name in request.requested_output_names()]
        body = msgspec.convert({"inputs": [], "outputs": outputs, "parameters": given}, InferBody)
        timeout_s = request.timeout() / 1e6
        deadline_s = arrived_s + timeout_s if timeout_s else float("inf")
        return self._form.accept(body, reader.tensors, binary=True, arrived_s=arrived_s, deadline_s=deadline_s)


class _Reply:
    """Who waits for an outcome: it is kept for ``execute`` to return, or sent at once by the thread that has it.

    A :class:`~rankine.serving.work.Waiter`, and the event loop of it, as far as anybody asks.

    Attributes:
        response: what ``execute`` is to return, if anything.
    """

    def __init__(self, form: OipModel, request: Any) -> None:
        self._form, self._request, self._sender, self._is_done = form, request, None, False
        self.inference: Inference | None = None
        self.response: Any = None

    def send_later(self) -> None:
        """Other threads than that of ``execute`` will have the outcome."""
        self._sender = self._request.get_response_sender()

    def done(self) -> bool:
        return self._is_done

    def get_loop(self) -> Any:
        return self

    def call_soon_threadsafe(self, function: Callable[..., object], *values: Any) -> None:
        function(*values)

    def set_result(self, outcome: Outcome, /) -> None:
        try:
            outputs = self._form.outputs(self.inference, outcome)  # type: ignore[arg-type]  # it was queued with one
            tensors = [tensor_of(triton, spec.name, datatype, values) for spec, datatype, values in outputs]
        except Exception as error:  # noqa: BLE001  told to whoever asked
            self.set_exception(error)
        else:
            self._answer(triton.InferenceResponse(output_tensors=tensors))

    def set_exception(self, error: Exception, /) -> None:
        found = as_error(error)
        if not isinstance(error, RankineError):
            LOGGER.error("a request failed", exc_info=error)
        code = getattr(triton.TritonError, _CODES.get(found.http_status, "INTERNAL"))
        self._answer(triton.InferenceResponse(error=triton.TritonError(str(found), code)))

    def _answer(self, response: Any) -> None:
        self._is_done = True
        if self._sender is None:
            self.response = response
        else:
            _send(self._sender, response)


def _send(sender: Any, response: Any) -> None:
    try:
        sender.send(response, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:  # noqa: BLE001  the other replies of its batch still go out
        LOGGER.exception("a reply could not be handed to Triton")


def _nothing(told: object) -> None:
    """Triton has its own metrics."""


_SETTINGS = TritonSettings.model_fields
