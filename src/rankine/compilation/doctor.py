"""What works on this machine: native module, processor, accelerators, every engine with its devices, every extra;
and for what is missing the line that installs it."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from rankine.compilation.engine import Capabilities
from rankine.compilation.engines import installed
from rankine.config import Frozen
from rankine.environment import environment, instruction_set
from rankine.errors import EngineMissing

__all__ = ["Finding", "diagnose"]

_DEVELOPMENT = ("all", "dev")
"""Extras of which nobody who uses Rankine misses anything."""
_ACCELERATOR_NODES = "/dev/accel"
"""Where Linux shows NPUs."""
_PROBE_S = 10.0
_NO_ACCELERATORS = ("cpu", "auto")
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
    engines = installed()
    return [_versions(), _native_module(), *_processor(), _accelerators(engines), *_engines(engines), *_extras()]


def _versions() -> Finding:
    from rankine import __version__

    here = environment()
    return Finding(
        subject="rankine", ok=True, detail=f"{__version__}, Python {here['python']}, {here['system']} {here['machine']}"
    )


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
            subject="CPU features",
            ok=True,
            detail=f"{', '.join(sets) or 'none that are known'}; engines choose by {instruction_set()}",
        ),
        Finding(
            subject="INT8 instructions",
            ok=bool(fast),
            detail=", ".join(fast) if fast else f"none among {', '.join(sets) or 'what is known'}",
            hint=None if fast else "INT8 variants may be no faster than FP32 here: see `rankine bench engines`.",
        ),
    ]


def _accelerators(engines: list[tuple[str, Capabilities | EngineMissing]]) -> Finding:
    """GPUs and NPUs, and whether an engine can open any device but the CPU."""
    found = [*_nvidia_gpus(), *sorted(path.name for path in Path(_ACCELERATOR_NODES).glob("*"))]
    opened = [
        (name, device, one)
        for name, one in engines
        if isinstance(one, Capabilities)
        for device in one.devices
        if device not in _NO_ACCELERATORS
    ]
    devices = [f"{name}: {device}" for name, device, one in opened if one.runs_on(device) == "chip"]
    instead = "; ".join(f"{name}: {one.told(device)}" for name, device, one in opened if one.runs_on(device) != "chip")
    if not found and not devices:
        stands_in = f"; in a chip's place: {instead}" if instead else ""
        return Finding(subject="accelerators", ok=True, detail=f"none found: no NVIDIA GPU, no NPU{stands_in}")
    detail = f"{', '.join(found) or 'none of NVIDIA'}; opened by {', '.join(devices) or 'no engine'}"
    hint = None if devices else "Install an engine's build for it, e.g. `pip install onnxruntime-gpu`, and look again."
    return Finding(subject="accelerators", ok=bool(devices), detail=detail, hint=hint)


def _nvidia_gpus() -> list[str]:
    """Names and memory, as the driver's own tool tells them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PROBE_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi fails ({type(error).__name__})"]
    return [" ".join(line.split()) for line in told.splitlines() if line.strip()]


def _engines(engines: list[tuple[str, Capabilities | EngineMissing]]) -> list[Finding]:
    findings = []
    for name, found in engines:
        subject = f"engine {name}"
        if isinstance(found, Capabilities):
            findings.append(Finding(subject=subject, ok=True, detail=_told(found)))
        else:
            findings.append(Finding(subject=subject, ok=False, detail=found.got or found.message, hint=found.hint))
    return findings


def _told(found: Capabilities) -> str:
    devices = ", ".join(map(found.told, found.devices))
    compiles = f"; compiles for {found.builds_told}" if found.compiles_for else ""
    options = "".join(f"; option {name}: {told}" for name, told in found.options.items())
    return f"{found.version} on {devices}: {', '.join(found.numerics)}{compiles}{options}"


def _extras() -> list[Finding]:
    """Each extra of the package, with what it lacks."""
    try:
        wanted = _wanted_by_extra(metadata.requires("rankine") or [])
    except metadata.PackageNotFoundError:  # run from its sources, without an installation
        return []
    findings = []
    for extra, names in sorted(wanted.items()):
        missing = sorted(name for name in names if not _is_installed(name))
        findings.append(
            Finding(
                subject=f"extra {extra}",
                ok=not missing,
                detail=f"lacks {', '.join(missing)}" if missing else "installed",
                hint=f"pip install 'rankine[{extra}]'" if missing else None,
            )
        )
    return findings


def _wanted_by_extra(requirements: list[str]) -> dict[str, set[str]]:
    """Packages of each extra; an extra that stands for others has theirs."""
    found: dict[str, set[str]] = {}
    others: dict[str, set[str]] = {}
    for text in requirements:
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", text)
        name = re.match(r"[\w.-]+", text)
        if extra is None or name is None or extra[1] in _DEVELOPMENT:
            continue
        own = found.setdefault(extra[1], set())
        if name[0] == "rankine":
            inner = re.search(r"\[(.*?)\]", text)
            others.setdefault(extra[1], set()).update(part.strip() for part in (inner[1] if inner else "").split(","))
        else:
            own.add(name[0])
    return {
        extra: names.union(*(found.get(other, set()) for other in others.get(extra, ())))
        for extra, names in found.items()
    }


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
