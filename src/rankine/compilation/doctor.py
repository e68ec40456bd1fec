"""What works on this machine: the native module, the processor, and every engine with its version or its cure."""

from __future__ import annotations

import importlib

from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import installed
from rankine.config import Frozen
from rankine.environment import environment

__all__ = ["Finding", "diagnose"]

_INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


class Finding(Frozen):
    """One line of `rankine doctor`.

    Attributes:
        subject: e.g. ``engine openvino``.
        ok: whether it can be used as it is.
        detail: version, or what is wrong.
        hint: what to do about it; the pip line for an engine that is missing.
    """

    subject: str
    ok: bool
    detail: str
    hint: str | None = None


def diagnose() -> list[Finding]:
    """All findings; nothing is hidden because it does not work."""
    return [_native_module(), *_processor(), *_engines()]


def _native_module() -> Finding:
    try:
        importlib.import_module("rankine._native")
    except ImportError as error:
        hint = "Install a C++ compiler, then `pip install --force-reinstall rankine`."
        return Finding(subject="native module", ok=False, detail=str(error), hint=hint)
    return Finding(subject="native module", ok=True, detail="loads")


def _processor() -> list[Finding]:
    here = environment()
    sets = str(here["instruction_sets"]).split()
    fast = [name for name in _INT8_INSTRUCTIONS if name in sets]
    return [
        Finding(subject="processor", ok=True, detail=f"{here['cpu']}, {here['cores']} of {here['cores_online']} cores"),
        Finding(
            subject="INT8 instructions",
            ok=bool(fast),
            detail=", ".join(fast) if fast else f"none among {', '.join(sets) or 'what is known'}",
            hint=None if fast else "INT8 variants may be no faster than FP32 here: see `rankine bench engines`.",
        ),
    ]


def _engines() -> list[Finding]:
    findings = []
    for name, found in installed():
        subject = f"engine {name}"
        if isinstance(found, Capabilities):
            devices, numerics = ", ".join(found.devices), ", ".join(found.numerics)
            findings.append(Finding(subject=subject, ok=True, detail=f"{found.version} on {devices}: {numerics}"))
        else:
            findings.append(Finding(subject=subject, ok=False, detail=found.got or found.message, hint=found.hint))
    return findings
