"""Server reflection: which services and messages there are, for tools such as grpcurl."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from rankine.serving.grpc.calls import Calls
from rankine.serving.grpc.messages import INFERENCE, RANKER, read_pool

__all__ = ["SERVICES", "reflection_method"]

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""Both names of the service: their messages are alike, and tools ask for the one or the other."""


def reflection_method(service: str, calls: Calls) -> dict[str, Any]:
    """The handler of the one method, by its name, for one of ``SERVICES``; it needs a key where others do."""
    pool = read_pool()
    for described in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(described.serialized_pb))
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    servicer = reflection.aio.ReflectionServicer([INFERENCE, RANKER, health, *SERVICES], pool=pool)
    path = f"/{service}/ServerReflectionInfo"

    async def reflect(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        await calls.admit(calls.request(path, context), context)
        async for reply in servicer.ServerReflectionInfo(messages, context):
            yield reply

    handler = grpc.stream_stream_rpc_method_handler(
        reflect,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {"ServerReflectionInfo": handler}
