"""The error of a model that cannot be rewritten, and how a place in a model is called."""

from __future__ import annotations

import ast

import onnx

from rankine.errors import UsageError

__all__ = ["RewriteError", "place"]

_SCOPES = "pkg.torch.onnx.name_scopes"


class RewriteError(UsageError):
    """A model reads its ids in a way that cannot be moved out of the graph."""

    code = "rewrite"


def place(node: onnx.NodeProto) -> str:
    """Where a node stands, in words: its operator, its name and, where the exporter wrote it down, its module."""
    name = node.name or (node.output[0] if node.output else "?")
    module = _module(node)
    return f"{node.op_type} '{name}'" + (f" in module '{module}'" if module else "")


def _module(node: onnx.NodeProto) -> str:
    """The PyTorch module that a node comes from; empty where it is not known, or is the model itself."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if scopes is None:
        return node.name.strip("/").rpartition("/")[0].replace("/", ".") if node.name.startswith("/") else ""
    try:
        path = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return ""
    # The last one is the operation itself, the first one the model.
    return str(path[-2]) if isinstance(path, list) and len(path) > 1 else ""
