"""Compile a dense graph ahead of time: exported with an open number of rows, then one shared library."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import onnx
import torch

from rankine.compilation.engines.inductor.dense_module import DenseModule
from rankine.errors import EngineError
from rankine.models.rewrite.graph import failures

__all__ = ["build_library", "exported"]

_EXAMPLE_ROWS = 8
_OPTIONS: dict[str, Any] = {
    # Linear layers, INT8 ones too, are packed for oneDNN.
    "freezing": True,
    # How many threads a call has is decided where it is opened.
    "cpp.dynamic_threads": True,
    # One file is compiled: no pool of processes.
    "compile_threads": 1,
}


def build_library(graph: onnx.ModelProto, path: Path, where: str) -> int:
    """Write the shared library of a graph to ``path``; returns the columns of its logits.

    Raises:
        EngineError: an operator is not known, the graph depends on the number of rows, or there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise EngineError(
            "needs a C++ compiler to build, not to serve",
            where="inductor",
            got=f"'{compiler}' is not there",
            hint="On Debian or Ubuntu: apt-get install g++. Another one is named by the variable CXX.",
        )
    with tempfile.TemporaryDirectory(prefix="rankine-inductor-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about itself
        try:
            program, tasks = exported(graph)
            with torch.no_grad():  # or nothing is packed
                package = torch._inductor.aoti_compile_and_package(
                    program, package_path=str(Path(scratch) / "graph.pt2"), inductor_configs=_OPTIONS
                )
        except failures as error:
            raise EngineError("PyTorch cannot compile the graph", where=where, got=str(error)) from error
        _unpack(Path(package), path)
    return tasks


def exported(graph: onnx.ModelProto) -> tuple[torch.export.ExportedProgram, int]:
    """The graph as PyTorch operators, its rows open; and the columns of its logits.

    Raises:
        EngineError: names the operators that are not known.
        RuntimeError: of PyTorch, and all that it raises where a graph depends on the number of rows.
    """
    module = DenseModule(graph).eval()
    given = zip(module.widths, module.dtypes, strict=True)
    examples = tuple(torch.zeros(_EXAMPLE_ROWS, width, dtype=dtype) for width, dtype in given)
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        tasks = int(module(*examples).shape[1])
        shapes = (tuple({0: rows} for _ in examples),)
        return torch.export.export(module, examples, dynamic_shapes=shapes, strict=False), tasks


def _unpack(package: Path, path: Path) -> None:
    """Take the shared library out of a package: mapped from where it lies, all processes share it."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        for name in (name for name in names if name.endswith("extern_kernel_nodes.json")):
            called = {node["node"]["target"] for node in json.loads(archive.read(name)).get("nodes", ())}
            if called:  # operators that only PyTorch's own loader can call
                got = ", ".join(sorted(called))
                raise EngineError("does not run these operators", got=got, hint="Use another engine for it.")
        (library,) = (name for name in names if name.endswith(".so"))
        path.write_bytes(archive.read(library))
