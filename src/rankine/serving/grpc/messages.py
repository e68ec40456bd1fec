"""The classes of the messages, from ``protos/*.proto`` as protoc describes them in ``protos/messages.binpb``.

Made, and made again after an edit of a ``.proto``, in the root of the repository (a test holds the two together)::

    python -m grpc_tools.protoc -I src/rankine/serving/grpc/protos --include_imports \\
        --descriptor_set_out src/rankine/serving/grpc/protos/messages.binpb inference.proto ranker.proto status.proto

A descriptor set instead of generated Python: it binds us to no release of protobuf, and it is read into a pool of our
own. In the process's common pool a message name exists once, so that a program could not import both this and a client
of the same protocol.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["INFERENCE", "RANKER", "Message", "message_class", "read_pool"]

Message = Any
"""A protobuf message: its class is made when this module is imported, so that no type checker knows it."""
INFERENCE = "inference.GRPCInferenceService"
RANKER = "rankine.Ranker"


def read_pool() -> Any:
    """A pool of all our messages and services, to which more may be added."""
    raw = files("rankine.serving.grpc").joinpath("protos", "messages.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(raw).file:
        pool.Add(file)
    return pool


_POOL = read_pool()


def message_class(name: str) -> Any:
    """The class of a message by its full name, such as ``inference.ModelInferRequest``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
