"""Tensors of the Open Inference Protocol v2: JSON and the binary tensor extension, both directions.

Source: the KServe "Open Inference Protocol" REST specification and Triton Inference Server's "Binary Tensor Data
Extension".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from rankine.errors import BadRequest, PayloadTooLarge, did_you_mean
from rankine.serving.inputs import MAX_STRING_CHARS
from rankine.serving.protocols.json_keys import count_keys, refuse_duplicate_keys

__all__ = [
    "InferBody",
    "InputTensor",
    "OutputSpec",
    "Tensor",
    "TensorReader",
    "as_binary",
    "decode_infer",
    "encode_outputs",
]

DTYPES: Mapping[str, str] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_MAX_DEPTH = 8
_MAX_DECODED = 1 << 20
"""Most values of one request that are decoded one by one (JSON, BYTES), about half a second of work; numbers in binary
are read as they lie."""
_LENGTH_BYTES = 4
"""Before each element of a binary BYTES tensor."""
_JSON_TYPES: Mapping[str | None, set[type]] = {None: {str}, "b": {bool}, "f": {int, float}}
"""Python types of JSON values by NumPy kind (None: strings); integers otherwise."""


class InputTensor(msgspec.Struct, forbid_unknown_fields=True):
    """An input as a client describes it, and its values if those are JSON."""

    name: str
    shape: Annotated[list[_Size], Meta(max_length=_MAX_DEPTH)]
    datatype: str
    data: msgspec.Raw | UnsetType = UNSET  # decoded once its size is known to be allowed
    parameters: dict[str, Any] | UnsetType = UNSET


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: dict[str, Any] | UnsetType = UNSET


class InferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON part of an inference request."""

    inputs: list[InputTensor]
    id: str | UnsetType = UNSET
    outputs: list[_Output] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: ``values`` is flat, of a numeric dtype, or an object array of ``str`` for BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """An output that the client wants, and how."""

    name: str
    binary: bool


class TensorReader:
    """The tensors of one request, each checked before its values are decoded.

    Args:
        limits: most elements of each tensor that may be given, by name. A few bytes can announce millions of elements,
            so that their number is checked before any is decoded.

    Attributes:
        tensors: what was read so far, by name.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._limits = limits
        self._decoded = 0

    def check(self, given: InputTensor, *, one_by_one: bool) -> None:
        """Whether a tensor may be given, and is not too large.

        Args:
            one_by_one: its values are decoded one by one, as all but numbers in binary are.

        Raises:
            BadRequest: it is unknown, or was given already.
            PayloadTooLarge: it has more elements than its limit, or all tensors together take too long to decode.
        """
        _check_size(given, self._limits)
        if given.name in self.tensors:
            raise BadRequest("the input is given twice", where=given.name)
        self._decoded += math.prod(given.shape) if one_by_one else 0
        if self._decoded > _MAX_DECODED:
            hint = "Send numbers as binary tensors."
            raise PayloadTooLarge("too many values in JSON and BYTES", where=given.name, got=self._decoded, hint=hint)

    def add_binary(self, given: InputTensor, raw: bytes) -> None:
        """Read a tensor from the binary extension's form, checked for whether it may be."""
        self.check(given, one_by_one=given.datatype == "BYTES")
        self.tensors[given.name] = _from_binary(given, raw)

    def add_json(self, given: InputTensor) -> None:
        """Read a tensor from its JSON, checked for whether it may be."""
        self.check(given, one_by_one=True)
        self.tensors[given.name] = _from_json(given)

    def add_array(self, given: InputTensor, values: np.ndarray) -> None:
        """Take a tensor's numbers as they lie, of the datatype's own type; checked for whether it may be."""
        self.check(given, one_by_one=False)
        self.tensors[given.name] = _tensor(given, values.reshape(-1))

    def add_values(self, given: InputTensor, values: Sequence[Any]) -> None:
        """Take a tensor's values, of Python's type of its datatype; checked for whether it may be."""
        self.check(given, one_by_one=True)
        _refuse_more(given, len(values))
        self.tensors[given.name] = _from_values(given, values)


_decoder = msgspec.json.Decoder(InferBody)


def decode_infer(
    raw: bytes, header_bytes: int | None, limits: Mapping[str, int]
) -> tuple[InferBody, dict[str, Tensor]]:
    """An inference request's JSON and its tensors by name.

    Args:
        raw: the body: JSON, followed by binary tensors where ``header_bytes`` (the length of the JSON) is given.
        limits: most elements of each tensor, see :class:`TensorReader`.

    Raises:
        BadRequest: names what is malformed.
        PayloadTooLarge: a tensor has more elements than its limit.
    """
    if header_bytes is not None and header_bytes > len(raw):
        where = "header inference-header-content-length"
        raise BadRequest("is longer than the body", where=where, got=header_bytes, allowed=f"at most {len(raw)}")
    head = raw if header_bytes is None else raw[:header_bytes]
    body = _decode_head(head)
    reader = TensorReader(limits)
    position = len(head)
    for given in body.inputs:
        size = None if given.parameters is UNSET else given.parameters.get("binary_data_size")
        if size is None:
            reader.add_json(given)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(raw) - position:
            allowed = f"0..{len(raw) - position}, the bytes that are left in the body"
            raise BadRequest("has a wrong binary_data_size", where=given.name, got=repr(size), allowed=allowed)
        reader.add_binary(given, raw[position : position + size])
        position += size
    if position != len(raw):
        raise BadRequest("bytes are left over after the last tensor", where="body", got=len(raw) - position)
    # Data that became a tensor is flat or nested lists of scalars: there are no keys in it.
    data = [memoryview(given.data) for given in body.inputs if given.data is not UNSET]
    refuse_duplicate_keys(head, _keys_of(body), outside=data)
    return body, reader.tensors


def encode_outputs(
    head: dict[str, Any], outputs: Sequence[tuple[OutputSpec, str, np.ndarray | list[str]]]
) -> tuple[bytes, int | None]:
    """The reply's body, and the length of its JSON part where binary tensors follow it.

    Args:
        head: fields of the reply beside ``outputs``.
        outputs: per output its spec, datatype, and values (a list of strings for BYTES).
    """
    described: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for spec, datatype, values in outputs:
        shape = [len(values)] if isinstance(values, list) else list(values.shape)
        field: dict[str, Any] = {"name": spec.name, "datatype": datatype, "shape": shape}
        if spec.binary:
            chunk = as_binary(datatype, values)
            chunks.append(chunk)
            field["parameters"] = {"binary_data_size": len(chunk)}
        else:
            field["data"] = values if isinstance(values, list) else values.ravel().tolist()
        described.append(field)
    raw = msgspec.json.encode({**head, "outputs": described})
    return (raw + b"".join(chunks), len(raw)) if chunks else (raw, None)


def _decode_head(head: bytes) -> InferBody:
    try:
        return _decoder.decode(head)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        raise BadRequest(text.replace("`", "'"), where=path.strip("`").removeprefix("$.") or "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not valid JSON: {error}", where="body") from None


def _keys_of(body: InferBody) -> int:
    """Keys of all objects in the JSON, each counted once an object."""
    structs: list[InferBody | InputTensor | _Output] = [body, *body.inputs]
    structs += [] if body.outputs is UNSET else body.outputs
    keys = 0
    for struct in structs:
        keys += sum(getattr(struct, field) is not UNSET for field in struct.__struct_fields__)
        keys += 0 if struct.parameters is UNSET else count_keys(struct.parameters)
    return keys


def _check_size(given: InputTensor, limits: Mapping[str, int]) -> None:
    limit = limits.get(given.name)
    if limit is None:
        raise BadRequest("unknown input", where=given.name, hint=did_you_mean(given.name, limits))
    count = math.prod(given.shape)
    if count > limit:
        raise PayloadTooLarge("too many values", where=given.name, got=count, allowed=f"at most {limit}")


def _refuse_more(given: InputTensor, count: int) -> None:
    if count > math.prod(given.shape):
        raise _not_filled(given, "more values")


def _from_json(given: InputTensor) -> Tensor:
    if given.data is UNSET:
        raise BadRequest("has no data", where=given.name, hint="Give 'data', or 'binary_data_size' in 'parameters'.")
    raw = bytes(given.data)
    if given.datatype == "BYTES":  # two quotes a string; those inside of strings come after a backslash
        _refuse_more(given, (raw.count(b'"') - raw.count(b'\\"')) // 2)
    else:  # between n values are n - 1 commas, however they are nested
        _refuse_more(given, raw.count(b",") + (raw.strip(b"[] \t\r\n") != b""))
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not valid JSON: {error}", where=given.name) from None
    flat = _flatten(data, given.name)
    dtype = _dtype_of(given)
    kinds = set(map(type, flat))
    allowed = _JSON_TYPES.get(None if dtype is None else np.dtype(dtype).kind, {int})
    if kinds - allowed:
        got = ", ".join(sorted(kind.__name__ for kind in kinds - allowed))
        raise BadRequest("holds values of the wrong type", where=given.name, got=got, allowed=given.datatype)
    return _from_values(given, flat)


def _from_values(given: InputTensor, flat: Sequence[Any]) -> Tensor:
    """A tensor from values of the right type."""
    dtype = _dtype_of(given)
    if dtype is None:
        return _tensor(given, _strings(flat, given.name))
    try:
        values = np.array(flat, np.float64 if np.dtype(dtype).kind == "f" else object)
        with np.errstate(over="ignore"):
            return _tensor(given, values.astype(dtype))
    except OverflowError:
        raise BadRequest("a value is out of the type's range", where=given.name, allowed=given.datatype) from None


def _from_binary(given: InputTensor, raw: bytes) -> Tensor:
    dtype = _dtype_of(given)
    if dtype is None:
        return _tensor(given, _strings(_split_bytes(given, raw), given.name))
    if len(raw) % np.dtype(dtype).itemsize:
        raise BadRequest("binary data is cut off", where=given.name, got=f"{len(raw)} bytes", allowed=given.datatype)
    return _tensor(given, np.frombuffer(raw, dtype))


def _tensor(given: InputTensor, values: np.ndarray) -> Tensor:
    if math.prod(given.shape) != len(values):
        raise _not_filled(given, f"{len(values)} values")
    return Tensor(given.name, given.datatype, tuple(given.shape), values)


def _not_filled(given: InputTensor, found: str) -> BadRequest:
    return BadRequest("data does not fill the shape", where=given.name, got=f"shape {given.shape}, but {found}")


def _dtype_of(given: InputTensor) -> str | None:
    """NumPy's name of the datatype; None for BYTES."""
    if given.datatype == "BYTES":
        return None
    if given.datatype not in DTYPES:
        hint = did_you_mean(given.datatype, [*DTYPES, "BYTES"])
        raise BadRequest("unknown datatype", where=given.name, got=given.datatype, hint=hint)
    return DTYPES[given.datatype]


def _flatten(data: Any, where: str) -> list[Any]:
    """Tensors may come flat or nested as their shape."""
    level = data if isinstance(data, list) else None
    for _ in range(_MAX_DEPTH):
        if level is None:
            break
        if not any(isinstance(value, list) for value in level):
            return level
        if not all(isinstance(value, list) for value in level):
            break
        level = [value for row in level for value in row]
    raise BadRequest("data must be a list, flat or evenly nested", where=where)


def _split_bytes(given: InputTensor, raw: bytes) -> list[bytes]:
    """Elements of a BYTES tensor: each is preceded by its length, 4 bytes little-endian."""
    count = math.prod(given.shape)
    if count * _LENGTH_BYTES > len(raw):
        raise _not_filled(given, f"{len(raw)} bytes")
    parts: list[bytes] = []
    position = 0
    for _ in range(count):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(raw[position:start], "little")
        if start > len(raw) or position > len(raw):
            raise BadRequest("a BYTES element is cut off", where=given.name)
        parts.append(raw[start:position])
    if position != len(raw):
        raise _not_filled(given, "more values")
    return parts


def _strings(values: Sequence[str | bytes], where: str) -> np.ndarray:
    texts = np.empty(len(values), object)
    for at, value in enumerate(values):
        try:
            text = value if isinstance(value, str) else value.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRequest("is not UTF-8", where=f"{where}[{at}]") from None
        if len(text) > MAX_STRING_CHARS:
            allowed = f"at most {MAX_STRING_CHARS} characters"
            raise BadRequest("the string is too long", where=f"{where}[{at}]", got=len(text), allowed=allowed)
        texts[at] = text
    return texts


def as_binary(datatype: str, values: np.ndarray | list[str]) -> bytes:
    """Values in the form of the binary tensor extension."""
    if isinstance(values, list):
        encoded = [value.encode() for value in values]
        return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)
    return values.astype(DTYPES[datatype]).tobytes()
