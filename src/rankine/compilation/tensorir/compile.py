"""A program's functions as a shared library with one function of C, which is called without TVM and its runtime."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankine.compilation.tensorir.instruction_sets import InstructionSet
from rankine.compilation.tensorir.library import tirx, tvm
from rankine.errors import EngineError

__all__ = ["assembly", "compile_library"]

_LINKERS = {"x86_64": ("cc", "gcc", "clang"), "aarch64": ("aarch64-linux-gnu-gcc", "cc", "gcc", "clang")}


def compile_library(functions: Mapping[str, Any], machine: InstructionSet, path: Path) -> None:
    """Compile functions of TensorIR for an instruction set into the shared library ``path``.

    Raises:
        EngineError: TVM cannot compile them, or there is no linker.
    """
    compiled = _compiled(functions, machine)
    given = path.with_suffix(".o")
    compiled.write_to_file(str(given))
    try:
        _link(given, path, machine)
    finally:
        given.unlink()


def assembly(functions: Mapping[str, Any], machine: InstructionSet) -> str:
    """What the compiler makes of functions of TensorIR, for a reader."""
    return str(_compiled(functions, machine).inspect_source("s"))


def _compiled(functions: Mapping[str, Any], machine: InstructionSet) -> Any:
    """A module of TVM. Its usual pipeline would make the entry a function of TVM's runtime, which unpacks and checks
    its arguments; only what lowers loops and vectors is taken from it."""
    target = tvm.target.Target(machine.target)
    module = tvm.IRModule(dict(functions))
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        tirx.transform.StmtSimplify(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.UnrollLoop(),
        tirx.transform.StmtSimplify(),
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]
    try:
        with tvm.transform.PassContext(opt_level=3):
            for one in passes:
                module = one(module)
            return tvm.get_global_func("target.build.llvm")(module, target)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[:1]
        raise EngineError(f"TVM cannot compile the program for {machine.name}", got="".join(first)) from error


def _link(given: Path, path: Path, machine: InstructionSet) -> None:
    for name in _LINKERS[machine.architecture]:
        linker = shutil.which(name)
        if linker is None:
            continue
        done = subprocess.run(
            [linker, "-shared", "-o", str(path), str(given), "-lm"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError("the linker failed", where=linker, got=done.stderr.strip()[-500:])
        return
    raise EngineError(
        "there is no linker for what TVM compiled",
        got=f"none of {', '.join(_LINKERS[machine.architecture])}",
        hint="Install a C compiler, e.g. `apt-get install gcc`; it is needed to build, not to serve.",
    )
