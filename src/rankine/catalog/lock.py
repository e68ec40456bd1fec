"""One writer at a time: a lock file that the system gives free when its holder ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankine.errors import ArtifactError

__all__ = ["LOCK_FILE", "writing"]

LOCK_FILE = "writer.lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the right to write a catalog. The file stays: whether it is locked counts, not whether it is there.

    Raises:
        ArtifactError: another process, or another writer of this one, holds it; or this system knows no such locks.
    """
    try:
        import fcntl
    except ImportError:
        raise ArtifactError("catalogs cannot be changed on this system", where=str(folder), allowed="POSIX") from None
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            raise ArtifactError(
                "the catalog is being written",
                where=str(folder),
                got=f"a writer in {holder or 'another process'}",
                allowed="one writer at a time",
                hint="Wait until it ends, or hand it your items; readers are never locked out.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
