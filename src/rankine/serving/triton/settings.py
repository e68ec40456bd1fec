"""What a model in Triton's repository is told: the ``parameters`` of its ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from rankine.artifact import Artifact
from rankine.config import Frozen
from rankine.errors import ArtifactError
from rankine.serving.config import ServeConfig

__all__ = ["TritonSettings"]


class TritonSettings(Frozen):
    """Settings of one model.

    Attributes:
        artifact, catalog: folders, absolute or relative to the model's; no catalog if None.
        digest: of the artifact that was exported.
        variant, engine, device, split, threads, allow_uncertified: as of :class:`~rankine.serving.config.ServeConfig`.
        max_candidates, max_batch_rows, max_batch_ms, max_queue_rows, max_wait_ms: likewise.
        catalog_refresh_s, unknown_item: likewise.
    """

    artifact: str
    digest: str
    catalog: str | None = None
    variant: str
    engine: str
    device: str | None = None
    split: bool = True
    threads: int = Field(1, ge=1, le=1024)
    allow_uncertified: bool = False
    max_candidates: int = Field(10_000, ge=1)
    max_batch_rows: int = Field(2048, ge=1)
    max_batch_ms: float = Field(20.0, gt=0)
    max_queue_rows: int = Field(65_536, ge=1)
    max_wait_ms: float = Field(10_000.0, gt=0)
    catalog_refresh_s: float = Field(1.0, ge=0)
    unknown_item: str = "error"

    def serve_config(self, folder: Path) -> ServeConfig:
        """The same as settings of a server; ``folder``: the model's.

        Raises:
            ArtifactError: another artifact lies there than was exported.
        """
        artifact = folder / self.artifact
        found = Artifact.open(artifact).digest
        if found != self.digest:
            hint = "Export it again: inputs, outputs and certificates may be others."
            raise ArtifactError("is not the artifact that was exported", where=str(artifact), got=found, hint=hint)
        given = self.model_dump(exclude={"artifact", "digest", "catalog"})
        catalog = None if self.catalog is None else folder / self.catalog
        return ServeConfig.model_validate({**given, "artifact": artifact, "catalog": catalog})

    def parameters(self) -> Mapping[str, str]:
        """As texts, which is all that Triton keeps; without what is None."""
        told = self.model_dump(exclude_none=True)
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in told.items()}
