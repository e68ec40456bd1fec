"""Files that survive a loss of power: nothing counts as written before the disk says so."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from rankine.artifact import Blob

__all__ = ["UNFINISHED", "ArrayFile", "BlobFile", "replace_file", "sync_folder"]

UNFINISHED = ".unfinished-"
"""What the names of files begin with that are not whole yet: whoever finds one after a crash may remove it."""


class BlobFile:
    """A content being written into a folder of blobs, where it gets its SHA-256 as its name once it is whole."""

    def __init__(self, folder: Path, label: str) -> None:
        self._folder = folder
        self._path = folder / f"{UNFINISHED}{label}"
        self._file = self._path.open("wb")
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size_bytes += len(content)

    def finish(self) -> Blob:
        """Wait until the content is on the disk, and give it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        blob = Blob(sha256=self._digest.hexdigest(), size_bytes=self._size_bytes)
        self._path.chmod(0o444)
        self._path.replace(self._folder / blob.sha256)
        return blob

    def close(self) -> None:
        """Give up what is not whole."""
        self._file.close()


class ArrayFile:
    """An ``.npy`` file of known type and shape that is written row by row."""

    def __init__(self, folder: Path, label: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._dtype = dtype
        self._blob = BlobFile(folder, label)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._blob, header)

    def append(self, rows: np.ndarray) -> None:
        """The next rows, converted to the file's type."""
        self._blob.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def finish(self) -> Blob:
        return self._blob.finish()

    def close(self) -> None:
        self._blob.close()


def replace_file(path: Path, content: bytes) -> None:
    """Give a file this content, all or nothing."""
    unfinished = path.with_name(f"{UNFINISHED}{path.name}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
