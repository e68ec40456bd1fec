"""Messages of the Open Inference Protocol to what the REST form of it is parsed to, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from rankine.errors import BadRequest
from rankine.serving.grpc.messages import Message, message_class
from rankine.serving.protocols.oip_tensors import InferBody, InputTensor, OutputSpec, Tensor, TensorReader, as_binary

__all__ = ["InferResponse", "body_of", "is_raw", "response_of", "tensors_of"]

InferResponse = message_class("inference.ModelInferResponse")
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The field that holds the values of a datatype; of FP16 there is none, it comes in binary only."""


def is_raw(message: Message) -> bool:
    """Whether values come in binary, all inputs' alike; the reply's are then in binary too."""
    return len(message.raw_input_contents) > 0


def body_of(message: Message) -> InferBody:
    """What the JSON of REST would say, without values.

    Raises:
        BadRequest: a shape is no shape.
    """
    fields: dict[str, Any] = {
        "inputs": [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
            for tensor in message.inputs
        ],
        "outputs": [
            {"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs
        ],
        "parameters": _parameters(message.parameters),
    }  # fmt: skip
    if message.id:
        fields["id"] = message.id
    try:
        return msgspec.convert(fields, InferBody)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        raise BadRequest(text.replace("`", "'"), where=path.strip("`").removeprefix("$.") or "body") from None


def tensors_of(message: Message, body: InferBody, limits: Mapping[str, int]) -> dict[str, Tensor]:
    """The inputs by name.

    Raises:
        BadRequest: names the input whose values are missing, of another type, or do not fill its shape.
        PayloadTooLarge: an input has more values than ``limits`` say.
    """
    reader = TensorReader(limits)
    raws = message.raw_input_contents
    if raws and len(raws) != len(body.inputs):
        allowed = f"{len(body.inputs)}, one for each input"
        raise BadRequest("has another number of inputs", where="raw_input_contents", got=len(raws), allowed=allowed)
    for at, given in enumerate(body.inputs):
        held = message.inputs[at]
        if not raws:
            reader.add_values(given, _values(given, held))
            continue
        if held.HasField("contents"):
            hint = "Send the values of all inputs in raw_input_contents, or none."
            raise BadRequest("has contents beside raw_input_contents", where=given.name, hint=hint)
        reader.add_binary(given, raws[at])
    return reader.tensors


def response_of(
    head: Mapping[str, str], outputs: Iterable[tuple[OutputSpec, str, np.ndarray | list[str]]], *, raw: bool
) -> Message:
    """The reply of an inference.

    Args:
        head: ``model_name``, ``model_version`` and ``id``.
        outputs: see :meth:`~rankine.serving.protocols.oip.OipModel.outputs`.
        raw: values in binary, else in the fields of their types.
    """
    response = InferResponse(**head)
    for spec, datatype, values in outputs:
        shape = [len(values)] if isinstance(values, list) else list(values.shape)
        output = response.outputs.add(name=spec.name, datatype=datatype, shape=shape)
        if raw:
            response.raw_output_contents.append(as_binary(datatype, values))
            continue
        flat = [value.encode() for value in values] if isinstance(values, list) else values.ravel().tolist()
        getattr(output.contents, _CONTENTS[datatype]).extend(flat)
    return response


def _values(given: InputTensor, held: Message) -> Sequence[Any]:
    field = _CONTENTS.get(given.datatype)
    filled = [contents.name for contents, _ in held.contents.ListFields()]
    if field is None and given.datatype == "FP16":
        raise BadRequest("has no field of its own", where=given.name, got="FP16", hint="Send it in raw_input_contents.")
    if field is None:
        return ()  # an unknown datatype, which is refused by its name where values are read
    if filled and filled != [field]:
        raise BadRequest("has contents of another datatype", where=given.name, got=", ".join(filled), allowed=field)
    values: Sequence[Any] = getattr(held.contents, field)
    return values


def _parameters(given: Mapping[str, Message]) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in given.items()}
    return {name: getattr(given[name], field) for name, field in chosen.items() if field is not None}
