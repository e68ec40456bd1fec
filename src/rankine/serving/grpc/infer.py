"""``inference.GRPCInferenceService``: the Open Inference Protocol v2 over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rankine import __version__
from rankine.errors import ModelNotFound, did_you_mean
from rankine.serving.grpc.anywhere import anywhere
from rankine.serving.grpc.calls import Answer, Calls, Read, parse
from rankine.serving.grpc.infer_messages import body_of, is_raw, response_of, tensors_of
from rankine.serving.grpc.messages import INFERENCE, Message, message_class
from rankine.serving.http import Request
from rankine.serving.protocols.oip import Inference, OipModel, oip_models
from rankine.serving.work import Outcome

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["LABEL", "STREAM_PATH", "InferenceService"]

LABEL = "oip-grpc"
STREAM_PATH = f"/{INFERENCE}/ModelStreamInfer"
_PATH = f"/{INFERENCE}/ModelInfer"
_OTHER = "grpc"
_InferRequest = message_class("inference.ModelInferRequest")
_StreamResponse = message_class("inference.ModelStreamInferResponse")
_FINAL = "triton_final_response"
_WANTS_FINAL = "triton_enable_empty_final_response"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that is ready to run. ``raw``: its reply is in binary; ``final``: it says that it is the last one."""

    model: OipModel
    inference: Inference
    raw: bool
    final: bool


class InferenceService:
    """Answers the calls of the service but the stream's, of which it answers each message.

    Attributes:
        answer_in_stream: one message of ``ModelStreamInfer``, here or in another process.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._models = oip_models(app.model, max_candidates=app.config.max_candidates)
        self._version = app.model.version
        self.answer_in_stream = anywhere(app, STREAM_PATH, LABEL, self.infer_in_stream)

    def handlers(self, calls: Calls) -> dict[str, Any]:
        """Handlers by the name of the method."""
        simple = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
        }
        handlers = {}
        for name, fill in simple.items():
            handlers[name] = calls.unary(f"/{INFERENCE}/{name}", _OTHER, _answer(name, fill))
        handlers["ModelInfer"] = calls.unary(_PATH, LABEL, anywhere(self._app, _PATH, LABEL, self.infer))
        return handlers

    async def infer(self, request: Request, read: Read) -> bytes:
        """``ModelInfer``."""
        response = await self._inferred(request, read)
        return bytes(response.SerializeToString())

    async def infer_in_stream(self, request: Request, read: Read) -> bytes:
        """One message of ``ModelStreamInfer``: its reply as that of a stream."""
        response = await self._inferred(request, read)
        return bytes(_StreamResponse(infer_response=response).SerializeToString())

    async def _inferred(self, request: Request, read: Read) -> Message:
        app = self._app
        head = app.reception.admit(request)
        raw = await read()
        asked = await app.decode(len(raw), lambda: self._prepare(request, raw, head.plan_s))
        outcome = await app.run(request, asked.inference.work)
        return await app.render(asked.inference.top_k, lambda: self._reply(asked, outcome))

    def _prepare(self, request: Request, raw: bytes, deadline_s: float) -> _Asked:
        message = parse(_InferRequest, raw)
        model = self._find(message.model_name, message.model_version)
        body = body_of(message)
        tensors = tensors_of(message, body, model.limits)
        inference = model.accept(body, tensors, binary=True, arrived_s=request.arrived_s, deadline_s=deadline_s)
        final = (body.parameters or {}).get(_WANTS_FINAL) is True
        return _Asked(model, inference, is_raw(message), final)

    def _reply(self, asked: _Asked, outcome: Outcome) -> Message:
        head = {"model_name": asked.model.name, "model_version": self._version, "id": asked.inference.request_id or ""}
        response = response_of(head, asked.model.outputs(asked.inference, outcome), raw=asked.raw)
        if asked.final:  # a request has one reply here, which is its last
            response.parameters[_FINAL].bool_param = True
        return response

    async def _server_live(self, asked: Message) -> Message:
        return message_class("inference.ServerLiveResponse")(live=True)

    async def _server_ready(self, asked: Message) -> Message:
        return message_class("inference.ServerReadyResponse")(ready=self._app.ready)

    async def _model_ready(self, asked: Message) -> Message:
        served = asked.name in self._models and asked.version in ("", self._version)
        return message_class("inference.ModelReadyResponse")(ready=served and self._app.ready)

    async def _server_metadata(self, asked: Message) -> Message:
        return message_class("inference.ServerMetadataResponse")(name="rankine", version=__version__)

    async def _model_metadata(self, asked: Message) -> Message:
        return message_class("inference.ModelMetadataResponse")(**self._find(asked.name, asked.version).metadata())

    async def _model_config(self, asked: Message) -> Message:
        described = self._find(asked.name, asked.version).metadata()
        config = message_class("inference.ModelConfig")(
            name=described["name"], platform=described["platform"], backend="rankine"
        )
        for field, specs in ((config.input, described["inputs"]), (config.output, described["outputs"])):
            for spec in specs:
                field.add(name=spec["name"], data_type=_type_of(spec["datatype"]), dims=spec["shape"])
        return message_class("inference.ModelConfigResponse")(config=config)

    def _find(self, name: str, version: str) -> OipModel:
        model = self._models.get(name)
        if model is None:
            hint = did_you_mean(name, self._models)
            raise ModelNotFound("no such model is served here", where="model_name", got=name, hint=hint)
        if version not in ("", self._version):
            where = "model_version"
            raise ModelNotFound("this version is not served", where=where, got=version, allowed=self._version)
        return model


def _answer(name: str, fill: Callable[[Message], Awaitable[Message]]) -> Answer:
    """Of a method that needs nothing but its message."""
    kind = message_class(f"inference.{name}Request")

    async def answer(request: Request, read: Read) -> bytes:
        return bytes((await fill(parse(kind, await read()))).SerializeToString())

    return answer


def _type_of(datatype: str) -> str:
    """Name of a datatype in Triton's model configuration."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
