"""One variant for one engine, whole and in parts, both held to the reference before they are put into a draft.

Parts are for speed: where they cannot be made, built or verified, the variant runs whole, and why is told.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from rankine.artifact import Draft, sha256_of
from rankine.compilation.binding import Settings
from rankine.compilation.engine import Build, Capabilities, Engine, Runner, Target
from rankine.compilation.engines import load_engine
from rankine.compilation.split_model import LAYOUT_FILE, SplitModels, open_split, write_split
from rankine.compilation.split_runner import build_split, open_split_runner
from rankine.compilation.verify import Verification, verify_logits
from rankine.errors import RankineError
from rankine.events import Emit, step
from rankine.models.columns import Batch
from rankine.models.variant import Model

__all__ = ["PARTS", "build_variant", "can_build", "open_catalog", "split_folder", "take_apart"]

PARTS = "split"
"""Name of the folders of parts, of a variant and of its builds."""
_CATALOG_ENGINE = "onnxruntime"
"""Runs the catalog's part for all engines, which share what is stored of an item; serving always has it."""


def split_folder(variant: str) -> str:
    """Where an artifact keeps the parts of a variant."""
    return f"variants/{variant}/{PARTS}"


def can_build(capabilities: Capabilities, model: Model) -> bool:
    """Whether an engine runs a model at all."""
    if capabilities.needs_checkpoint and model.checkpoint is None:
        return False
    return model.numeric in capabilities.numerics


def open_catalog(parts: SplitModels) -> Runner | None:
    """The runner of the catalog's part; None where there is none."""
    if parts.catalog is None:
        return None
    return load_engine(_CATALOG_ENGINE).open(parts.catalog, parts.folder / "catalog")


def take_apart(model: Model, settings: Settings, folder: Path, emit: Emit) -> SplitModels | None:
    """Write a variant's parts into an empty folder; None where it stays whole, and then the folder says nothing."""
    with step(emit, f"split {model.name}") as advance:
        try:
            plan = write_split(model, settings, folder)
            if plan is None:
                advance(0, "stays whole: too little of it is known before the row")
                return None
            parts = open_split(model, folder)
            if parts.catalog is not None:
                (folder / "catalog").mkdir()
                load_engine(_CATALOG_ENGINE).build(parts.catalog, Target(), folder / "catalog")
        except RankineError as error:
            advance(0, f"stays whole: {error}")
            return None
        advance(0, f"{plan.work.share:.0%} of the multiply-adds are left for a row")
    return parts


def build_variant(
    draft: Draft,
    model: Model,
    parts: SplitModels | None,
    name: str,
    engine: Engine,
    batch: Batch,
    reference: np.ndarray,
) -> str:
    """Build, open and verify in a folder of its own, then put it into the draft; returns a few words on it.

    Args:
        name: of the engine.
        reference: float64 logits of ``batch``.

    Raises:
        EngineError: the whole graph cannot be built, or differs from the reference.
    """
    capabilities = engine.capabilities()
    device = capabilities.devices[0]
    form: str = model.numeric
    if capabilities.own_int8_form and model.numeric == "int8":
        form += f"-{name}"
    split, told = None, ""
    with tempfile.TemporaryDirectory(prefix="rankine-build-") as whole, tempfile.TemporaryDirectory() as taken_apart:
        engine.build(model, Target(device=device), Path(whole))
        found = _verified(model, engine.open(model, Path(whole), device=device), batch, reference)
        prefix = f"variants/{model.name}/builds/{name}"
        draft.remove(f"{prefix}/")
        for kind in (f"quality-{name}.", f"parity-{name}.", f"scores-{name}."):  # what they were taken on is gone
            draft.remove(f"variants/{model.name}/certificates/{kind}")
        draft.put_folder(prefix, Path(whole))
        if parts is not None and _runs_parts(capabilities):
            try:
                found = _build_parts(model, parts, engine, Path(taken_apart), batch, reference, device)
            except RankineError as error:
                told = f", whole: {error}"
            else:
                draft.put_folder(f"{prefix}/{PARTS}", Path(taken_apart))
                split, told = sha256_of(parts.folder / LAYOUT_FILE), ", in parts"
                form += "" if parts.storage == "float32" else f", items in {parts.storage}"
    build = Build(
        engine=name,
        engine_version=capabilities.version,
        device=device,
        numeric_form=form,
        max_logit_error=found.max_logit_error,
        mean_logit_error=found.mean_logit_error,
        verified_rows=found.rows,
        split=split,
    )
    draft.put_json(f"{prefix}/build.json", build)
    return f"largest logit error {found.max_logit_error:.1e} on {found.rows} rows{told}"


def _runs_parts(capabilities: Capabilities) -> bool:
    return not capabilities.needs_checkpoint and not capabilities.oracle


def _build_parts(
    model: Model,
    parts: SplitModels,
    engine: Engine,
    folder: Path,
    batch: Batch,
    reference: np.ndarray,
    device: str,
) -> Verification:
    """Build the parts into an empty folder, and hold them to the reference of the whole."""
    build_split(engine, parts, Target(device=device), folder)
    runner = open_split_runner(engine, parts, folder, open_catalog(parts), device=device)
    return _verified(model, runner, batch, reference, rounded=parts.storage != "float32")


def _verified(
    model: Model, runner: Runner, batch: Batch, reference: np.ndarray, *, rounded: bool = False
) -> Verification:
    try:
        return verify_logits(model, runner, batch, reference, rounded=rounded)
    finally:
        runner.close()
