"""What a crash, or an older snapshot, left behind: removed by the next writer, which alone may."""

from __future__ import annotations

from pathlib import Path

from rankine.artifact import Manifest
from rankine.catalog.durable import UNFINISHED

__all__ = ["sweep"]


def sweep(folder: Path, manifest: Manifest, generation: int) -> None:
    """Remove every file of a catalog that the snapshot which counts, of ``generation``, does not need.

    Readers that have mapped an older snapshot keep its pages until they let go.
    """
    blobs = {blob.sha256 for blob in manifest.files.values()}
    for path in (folder / "blobs").iterdir():
        if path.name not in blobs:
            path.unlink()
    _sweep_views(folder / "files", folder / "files", manifest)
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink()
    for path in folder.glob("log-*"):
        older = path.name.removeprefix("log-")
        if older.isdigit() and int(older) < generation:
            path.unlink()


def _sweep_views(folder: Path, files: Path, manifest: Manifest) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _sweep_views(path, files, manifest)
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(files).as_posix() not in manifest.files:
            path.unlink()
