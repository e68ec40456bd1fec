"""A model repository for Triton Inference Server: the three forms of a served model, each a model of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankine import __version__
from rankine.artifact import Artifact, refuse_existing
from rankine.catalog import catalog_beside
from rankine.config import Frozen
from rankine.errors import UsageError
from rankine.events import Emit, ignore, step
from rankine.serving.config import ServeConfig
from rankine.serving.model import ServedModel, open_model
from rankine.serving.protocols.oip import oip_models
from rankine.serving.protocols.oip_tensors import as_binary
from rankine.serving.triton.batching import BatchSizes
from rankine.serving.triton.config_text import config_text
from rankine.serving.triton.settings import TritonSettings
from rankine.serving.triton.warmup import warmup_tensors

__all__ = ["FORMS", "Exported", "Form", "write_repository"]

Form = Literal["flat", "rank", "batch"]
FORMS: tuple[Form, ...] = ("flat", "rank", "batch")
"""What a request holds: rows; a user and candidates; a batch of another server. See the protocol's page."""
_TOLD: Mapping[Form, str] = {
    "flat": "rows, each with everything about its user and its item",
    "rank": "one user and the ids of candidates; the answer is the best of them",
    "batch": "a batch of another Rankine server, encoded: see `rankine serve --remote`",
}
_WARM_ROWS = (1, 64, 512)
_ARTIFACT, _CATALOG = "artifact", "artifact.catalog"
_MODEL = '''\
"""Written by `rankine export triton-server`: runs what config.pbtxt names."""

import os
import site
import sys

packages = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
sys.path[:0] = [path for path in packages if path not in sys.path]  # Triton's stub does not look at it by itself
for path in packages:
    site.addsitedir(path)

try:
    from rankine.serving.triton.backend import TritonPythonModel
except ModuleNotFoundError as error:
    version = "%d.%d" % sys.version_info[:2]
    raise RuntimeError(
        f"{error}. Triton's python backend runs Python {version}: install Rankine for it (pip install "
        "rankine==VERSION), or name the folder of its packages in PYTHONPATH where tritonserver is started."
    ) from error

__all__ = ["TritonPythonModel"]
'''


class Exported(Frozen):
    """What was written.

    Attributes:
        repository: folder of the models. ``models``: their names.
        max_batch_rows, max_batch_ms: limits of batches. ``profile``: measured milliseconds by rows that they rest on.
        copied: whether the artifact lies in the repository; otherwise it is referred to.
    """

    repository: str
    models: tuple[str, ...]
    variant: str
    engine: str
    certified: bool
    max_batch_rows: int
    max_batch_ms: float
    profile: dict[int, float]
    copied: bool


def write_repository(
    config: ServeConfig,
    folder: Path,
    sizes: BatchSizes,
    *,
    forms: tuple[Form, ...] = FORMS,
    instances: int = 1,
    copy: bool = False,
    emit: Emit = ignore,
) -> Exported:
    """Write what serves ``config``'s artifact in Triton to ``folder``, which must not exist.

    Args:
        config: what is served: artifact, catalog, variant, engine, device, threads, limits.
        sizes: of batches.
        forms: that are written, each once, as a model with processes of its own.
        instances: of each model: processes that open the engine.
        copy: put artifact, its evidence and catalog into the repository, so that it can be taken elsewhere.

    Raises:
        CertificateRequired: what would be served has no certificate that lets it.
        ArtifactError: the artifact or its catalog is missing, or ``folder`` exists.
        UsageError: ``folder`` lies in the artifact, its catalog or its evidence, or cannot be made.
        EngineMissing: the engine is not installed.
    """
    staging = folder.parent / f".{folder.name}.{os.getpid()}"
    _refuse_folder(config, folder, staging)
    forms = tuple(dict.fromkeys(forms))
    model = open_model(config, emit)
    try:
        writer = _Writer(model, config, sizes, instances, staging, forms[0] if copy else None)
        for form in forms:
            with step(emit, f"write {_name(model.name, form)}"):
                writer.write(form)
        (staging / "README.md").write_text(_readme(model, forms), encoding="utf-8")
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for rung in model.rungs:
            rung.runner.close()
    return Exported(
        repository=str(folder),
        models=tuple(_name(model.name, form) for form in forms),
        variant=model.choice.variant,
        engine=model.choice.engine,
        certified=model.choice.certified,
        max_batch_rows=sizes.max_rows,
        max_batch_ms=sizes.max_ms,
        profile=dict(sizes.profile),
        copied=copy,
    )


def _refuse_folder(config: ServeConfig, folder: Path, staging: Path) -> None:
    """Before long work: whatever makes it impossible to write there, or harmful."""
    refuse_existing(folder, "DIR")
    evidence = Artifact.open(config.artifact).evidence().parent
    for what, held in (
        ("artifact", config.artifact),
        ("catalog", config.catalog or catalog_beside(config.artifact)),
        ("artifact's evidence", evidence),
    ):
        if folder.resolve().is_relative_to(held.resolve()):
            raise UsageError(
                f"lies in the {what}, in which nothing else may be", where=str(folder), hint="Give another DIR."
            )
    try:
        staging.mkdir(parents=True)
        staging.rmdir()
    except OSError as error:
        raise UsageError(
            "cannot be made",
            where=str(folder),
            got=error.strerror,
            hint="Give another DIR, or see to the rights there.",
        ) from None


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one model after the other.

    Attributes:
        keeper: the form in whose folder the artifact is copied; None where it is referred to.
    """

    model: ServedModel
    config: ServeConfig
    sizes: BatchSizes
    instances: int
    folder: Path
    keeper: Form | None

    def write(self, form: Form) -> None:
        """The folder of one model: configuration, code, warm-up requests; in one of them, what it all is about."""
        name = _name(self.model.name, form)
        own = self.folder / name
        (own / "1").mkdir(parents=True)
        (own / "1" / "model.py").write_text(_MODEL.replace("VERSION", __version__), encoding="utf-8")
        form_model = oip_models(self.model, max_candidates=self.config.max_candidates)[name]
        requests = [
            (f"{rows} rows", self._warmup(own, form, rows)) for rows in _WARM_ROWS if rows <= self.config.max_candidates
        ]
        text = config_text(
            name,
            form_model.metadata(),
            form_model.optional(),
            self._settings(form).parameters(),
            title=f"{self.model.name}, {self.model.choice.variant} on {self.model.choice.engine}",
            profile=self.sizes.profile,
            instances=self.instances,
            warmup=requests,
        )
        (own / "config.pbtxt").write_text(text, encoding="utf-8")
        if form == self.keeper:
            self._copy(own)

    def _copy(self, own: Path) -> None:
        """Artifact, evidence and catalog; their links, which lead no further than themselves, stay links."""
        artifact, catalog = self.model.artifact, self.model.catalog
        shutil.copytree(artifact.path, own / _ARTIFACT, symlinks=True)
        if artifact.evidence().is_dir():
            shutil.copytree(artifact.evidence(), Artifact.open(own / _ARTIFACT).evidence())
        if catalog is not None:
            shutil.copytree(catalog.path, own / _CATALOG, symlinks=True)

    def _settings(self, form: Form) -> TritonSettings:
        config, choice, catalog = self.config, self.model.choice, self.model.catalog
        at, items = str(self.model.artifact.path.resolve()), None if catalog is None else str(catalog.path.resolve())
        if self.keeper is not None:
            root = "" if form == self.keeper else f"../{_name(self.model.name, self.keeper)}/"
            at, items = root + _ARTIFACT, None if items is None else root + _CATALOG
        return TritonSettings(
            artifact=at,
            catalog=items,
            digest=self.model.artifact.digest,
            variant=choice.variant,
            engine=choice.engine,
            device=config.device,
            split=config.split,
            threads=config.threads,
            allow_uncertified=config.allow_uncertified,
            max_candidates=config.max_candidates,
            max_batch_rows=self.sizes.max_rows,
            max_batch_ms=self.sizes.max_ms,
            max_queue_rows=config.max_queue_rows,
            max_wait_ms=config.max_wait_ms,
            catalog_refresh_s=config.catalog_refresh_s,
            unknown_item=config.unknown_item,
        )

    def _warmup(self, own: Path, form: Form, rows: int) -> list[tuple[str, str, list[int], str]]:
        """Write a request's tensors; name, datatype, shape and file of each."""
        (own / "warmup").mkdir(exist_ok=True)
        described = []
        for number, (name, datatype, values) in enumerate(warmup_tensors(self.model, form, rows)):
            file = f"{rows}-{number}.bin"
            (own / "warmup" / file).write_bytes(_raw(datatype, values))
            described.append((name, datatype, list(values.shape), file))
        return described


def _raw(datatype: str, values: np.ndarray) -> bytes:
    return as_binary(datatype, [value.decode() for value in values.tolist()] if datatype == "BYTES" else values)


def _name(model: str, form: Form) -> str:
    return model if form == "flat" else f"{model}.{form}"


def _readme(model: ServedModel, forms: tuple[Form, ...]) -> str:
    """What lies here and how it is started, for whoever finds the folder."""
    told = "\n".join(f"| `{_name(model.name, form)}` | {_TOLD[form]} |" for form in forms)
    right = "certified" if model.choice.certified else "NOT certified"
    return f"""\
# {model.name} for Triton Inference Server

Variant `{model.choice.variant}` on engine `{model.choice.engine}`, {right}; artifact `{model.artifact.digest[:16]}`.
Written by `rankine export triton-server` of Rankine {__version__}.

    tritonserver --model-repository THIS_FOLDER

Triton's python backend must find Rankine {__version__} and the engine's library: install them for its Python, or name
their folder in PYTHONPATH.

| model | a request |
| --- | --- |
{told}

Inputs and outputs have the names, datatypes and shapes that `rankine serve` gives them under the same names, so the
same client gets the same scores from both.
"""
