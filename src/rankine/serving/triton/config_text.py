"""``config.pbtxt``: a model's configuration in the text form of Triton's protocol buffers."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["config_text"]

_TYPES = {"BYTES": "TYPE_STRING"}
_HEAD = """\
# Written by `rankine export triton-server`: %s
#
# max_batch_size is 0, and there is no dynamic_batching here: Triton's batcher joins requests whose tensors all begin
# with the same batch dimension, which those of a ranking request do not. model.py joins them instead, as they wait for
# the engine, within the parameters max_batch_rows and max_batch_ms. %s
"""
_NO_PROFILE = "There was no profile of the machine on which\n# this was written: `rankine bench engines` makes one."


def config_text(
    name: str,
    metadata: Mapping[str, Any],
    optional: Collection[str],
    parameters: Mapping[str, str],
    *,
    title: str,
    profile: Mapping[int, float],
    instances: int,
    warmup: Sequence[tuple[str, Iterable[tuple[str, str, Sequence[int], str]]]],
) -> str:
    """The whole file.

    Args:
        metadata: the model's inputs and outputs, as the protocol tells them.
        optional: inputs that a request may leave out.
        title: what it is of, for people.
        profile: milliseconds by rows on which the limits of batches rest; may be empty.
        warmup: by name, tensors of a request: name, datatype, shape, file.
    """
    measured = ", ".join(f"{rows} rows in {ms:.2f} ms" for rows, ms in profile.items())
    origin = f"They follow from the measured profile:\n# {measured}." if profile else _NO_PROFILE
    lines = [_HEAD % (title, origin)]
    lines += [f"name: {_quoted(name)}", 'backend: "python"', "max_batch_size: 0", ""]
    lines += [_tensor("input", spec, optional=spec["name"] in optional) for spec in metadata["inputs"]]
    lines += [_tensor("output", spec) for spec in metadata["outputs"]]
    lines += ["", f"instance_group [{{ kind: KIND_CPU, count: {instances} }}]", ""]
    lines += [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in parameters.items()
    ]
    for label, tensors in warmup:
        lines += ["", "model_warmup [{", f"  name: {_quoted(label)}", "  batch_size: 0", "  count: 3"]
        lines += [f"  {_warmup_input(*tensor)}" for tensor in tensors]
        lines += ["}]"]
    return "\n".join((*lines, ""))


def _tensor(side: str, spec: Mapping[str, Any], *, optional: bool = False) -> str:
    more = ", optional: true" if optional else ""
    kind, dims = _type_of(spec["datatype"]), ", ".join(map(str, spec["shape"]))
    return f"{side} [{{ name: {_quoted(spec['name'])}, data_type: {kind}, dims: [{dims}]{more} }}]"


def _warmup_input(name: str, datatype: str, shape: Sequence[int], file: str) -> str:
    dims = ", ".join(map(str, shape))
    value = f"data_type: {_type_of(datatype)}, dims: [{dims}], input_data_file: {_quoted(file)}"
    return f"inputs {{ key: {_quoted(name)} value {{ {value} }} }}"


def _type_of(datatype: str) -> str:
    return _TYPES.get(datatype, f"TYPE_{datatype}")


def _quoted(text: str) -> str:
    """A string of the text form; JSON's escapes for ASCII are among its own, others stay as they are."""
    return json.dumps(text, ensure_ascii=False)
