"""The artifact: an immutable, content-addressed folder that one stage writes and the next ones read.

On disk::

    my-model/
      manifest.json                  names, lineage, and the SHA-256 and size of every file
      blobs/<sha256>                 the contents, once each; a child hard-links its parent's blobs
      files/schema.yaml -> ../blobs/…   the same contents under readable names (relative links)

An artifact is written once, as a whole (:class:`Draft`), and never edited. What is learned about it later or elsewhere
(profiles of a machine, parity certificates) is kept beside it, see :meth:`Artifact.evidence`. Files are read through
``mmap`` where they are arrays, so that processes share pages. Hashes are checked by :meth:`Artifact.verify` when an
artifact is installed, not at every open.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import TypeVar

import numpy as np
from pydantic import Field

from rankine.config import Frozen, parse
from rankine.errors import ArtifactError, ConfigError, did_you_mean

__all__ = ["Artifact", "Blob", "Draft", "Manifest", "read_record", "refuse_existing", "sha256_of"]

SCHEMA_VERSION = 1
_CHUNK_BYTES = 1 << 20
_COPY_AGAIN = "Copy the artifact again, whole."

Record = TypeVar("Record", bound=Frozen)


class Blob(Frozen):
    """Content of one file: its SHA-256 and its size."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class Manifest(Frozen):
    """What an artifact is: its name and stage, what it was made from, and its files."""

    schema_version: int = SCHEMA_VERSION
    name: str
    version: str
    stage: str
    parent: str | None = None
    created: str
    rankine_version: str
    files: Mapping[str, Blob]


class Artifact:
    """An artifact that lies on disk; see the module for its layout."""

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest

    @classmethod
    def open(cls, path: Path | str) -> Artifact:
        """Read the manifest; contents are mapped when they are asked for.

        Raises:
            ArtifactError: ``path`` is not an artifact, is of another version, or misses files.
        """
        path = Path(path)
        try:
            raw = (path / "manifest.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactError(
                "not an artifact: it has no manifest.json",
                where=str(path),
                hint="Give the folder that `rankine train`, `compress`, `compile` or `optimize` wrote with --out.",
            ) from None
        except OSError as error:
            raise _unreadable(path / "manifest.json", error) from None
        values = _json(raw, str(path / "manifest.json"))
        if not isinstance(values, dict) or values.get("schema_version") != SCHEMA_VERSION:
            version = values.get("schema_version") if isinstance(values, dict) else None
            raise ArtifactError(
                "unknown artifact version", where=str(path), got=repr(version), allowed=str(SCHEMA_VERSION)
            )
        manifest = _record(Manifest, values, str(path / "manifest.json"))
        artifact = cls(path, manifest, hashlib.sha256(raw).hexdigest())
        for name, blob in manifest.files.items():
            _check_name(name)
            held = path / "blobs" / blob.sha256
            if not held.is_file() or held.stat().st_size != blob.size_bytes:
                raise ArtifactError(
                    f"the content of '{name}' is missing or has another size", where=str(held), hint=_COPY_AGAIN
                )
            view = path / "files" / name
            if not view.is_file():
                raise ArtifactError(f"the file '{name}' is missing", where=str(view), hint=_COPY_AGAIN)
        return artifact

    @property
    def name(self) -> str:
        return self.manifest.name

    def __contains__(self, name: str) -> bool:
        return name in self.manifest.files

    def names(self, prefix: str = "") -> list[str]:
        """Names of the files below ``prefix``, sorted."""
        return sorted(name for name in self.manifest.files if name.startswith(prefix))

    def file(self, name: str) -> Path:
        """The readable path of a file.

        Raises:
            ArtifactError: there is no such file.
        """
        if name not in self.manifest.files:
            raise ArtifactError(
                f"has no file '{name}'", where=str(self.path), hint=did_you_mean(name, self.manifest.files)
            )
        return self.path / "files" / name

    def folder(self, prefix: str) -> Path:
        """The readable path of the folder that holds the files below ``prefix``."""
        if not self.names(prefix.rstrip("/") + "/"):
            raise ArtifactError(f"has no folder '{prefix}'", where=str(self.path))
        return self.path / "files" / prefix

    def read_bytes(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            ArtifactError: there is no such file, or it cannot be read.
        """
        path = self.file(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from None

    def read_json(self, name: str, kind: type[Record]) -> Record:
        """A JSON file as the record ``kind``.

        Raises:
            ArtifactError: there is no such file, it is not JSON, or it does not fit ``kind``.
        """
        return read_record(self.file(name), kind)

    def array(self, name: str) -> np.ndarray:
        """An ``.npy`` file, memory-mapped read-only.

        Raises:
            ArtifactError: there is no such file, it is no array, or it holds pickled objects.
        """
        path = self.file(name)
        try:
            # Not np.load, which would also open archives and, where it is allowed, pickles.
            mapped: np.ndarray = np.lib.format.open_memmap(path, mode="r")
        except OSError as error:
            raise _unreadable(path, error) from None
        except (ValueError, OverflowError, SyntaxError, TokenError) as error:
            got = " ".join(str(error).split())
            raise ArtifactError("is not a readable array", where=str(path), got=got, hint=_COPY_AGAIN) from None
        return mapped

    def size_bytes(self, prefix: str = "") -> int:
        """Bytes of the distinct contents of the files below ``prefix``."""
        blobs = {self.manifest.files[name].sha256: self.manifest.files[name].size_bytes for name in self.names(prefix)}
        return sum(blobs.values())

    def evidence(self) -> Path:
        """Folder beside the artifact for what is learned about it later or elsewhere, keyed by its hash."""
        return self.path.parent / f"{self.path.name}.evidence" / self.digest[:16]

    def verify(self) -> None:
        """Check the SHA-256 of every content, in chunks.

        The readable name is checked too where it is no link to its blob: a copy may have followed the links.

        Raises:
            ArtifactError: names the first file whose content is not what the manifest says.
        """
        for name, blob in self.manifest.files.items():
            held, view = self.path / "blobs" / blob.sha256, self.path / "files" / name
            if not view.is_file():
                raise ArtifactError(f"the file '{name}' is missing", where=str(view), hint=_COPY_AGAIN)
            if sha256_of(held) != blob.sha256 or not (view.samefile(held) or sha256_of(view) == blob.sha256):
                raise ArtifactError(f"the content of '{name}' was changed", where=str(self.path), hint=_COPY_AGAIN)


class Draft:
    """An artifact being written: put files, then :meth:`commit` once.

    A child starts with its parent's files and shares their blobs; a file put again under the same name replaces the
    parent's in the child, never in the parent. A draft that is dropped leaves nothing behind.
    """

    def __init__(self, stage: str, *, parent: Artifact | None = None, name: str | None = None) -> None:
        if parent is None and name is None:
            raise ArtifactError("a first artifact needs a name")
        self.stage = stage
        self.name = name or (parent.name if parent else "")
        self.parent = parent
        self._files: dict[str, Blob] = dict(parent.manifest.files) if parent else {}
        self._staging = Path(tempfile.mkdtemp(prefix="rankine-draft-"))
        # Not TemporaryDirectory: it warns where a draft is given up on purpose, after an error.
        self._discard = weakref.finalize(self, shutil.rmtree, self._staging, ignore_errors=True)

    def put_bytes(self, name: str, content: bytes) -> None:
        """Add a file with this content."""
        _check_name(name)
        digest = hashlib.sha256(content).hexdigest()
        held = self._staging / digest
        if not held.exists():
            held.write_bytes(content)
        self._files[name] = Blob(sha256=digest, size_bytes=len(content))

    def put_file(self, name: str, path: Path) -> None:
        """Add a copy of the file at ``path``."""
        _check_name(name)
        digest = sha256_of(path)
        held = self._staging / digest
        if not held.exists():
            shutil.copyfile(path, held)
        self._files[name] = Blob(sha256=digest, size_bytes=held.stat().st_size)

    def put_folder(self, prefix: str, folder: Path) -> None:
        """Add every file below ``folder`` under ``prefix``."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)

    def put_json(self, name: str, record: Frozen) -> None:
        """Add a record as indented JSON."""
        self.put_bytes(name, record.model_dump_json(indent=2).encode())

    def put_array(self, name: str, array: np.ndarray) -> None:
        """Add an array as ``.npy``, C-contiguous."""
        path = self._staging / "array.npy"
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        self.put_file(name, path)
        path.unlink()

    def remove(self, prefix: str) -> None:
        """Leave the files below ``prefix`` out of this artifact (the parent keeps them)."""
        self._files = {name: blob for name, blob in self._files.items() if not name.startswith(prefix)}

    def commit(self, path: Path | str) -> Artifact:
        """Write the artifact to ``path``, all or nothing.

        Raises:
            ArtifactError: something is already there, as artifacts are never overwritten; or this was committed before.
        """
        path = Path(path)
        if not self._discard.alive:
            raise ArtifactError("a draft is committed once", where=str(path), hint="Start a child of what it became.")
        refuse_existing(path)
        from rankine import __version__

        path.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            (building / "blobs").mkdir()
            for name, blob in self._files.items():
                self._place(building, name, blob)
            content = hashlib.sha256(
                "".join(f"{name}\0{blob.sha256}\n" for name, blob in sorted(self._files.items())).encode()
            ).hexdigest()
            manifest = Manifest(
                name=self.name,
                version=content[:12],
                stage=self.stage,
                parent=self.parent.digest if self.parent else None,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                rankine_version=__version__,
                files=dict(sorted(self._files.items())),
            )
            (building / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
            building.chmod(0o755)
            building.rename(path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        self._discard()
        return Artifact.open(path)

    def _place(self, building: Path, name: str, blob: Blob) -> None:
        held = building / "blobs" / blob.sha256
        if not held.exists():
            staged = self._staging / blob.sha256
            if self.parent is not None and not staged.exists():
                _link(self.parent.path / "blobs" / blob.sha256, held)
            else:
                shutil.copyfile(staged, held)
                held.chmod(0o444)
        view = building / "files" / name
        view.parent.mkdir(parents=True, exist_ok=True)
        view.symlink_to(os.path.relpath(held, view.parent))


def refuse_existing(path: Path, given: str = "--out") -> None:
    """Refuse a path at which something is: called before long work, and again when it is written.

    Args:
        given: what the user gave it as.

    Raises:
        ArtifactError: something is there, if only a link to nowhere.
    """
    if path.exists() or path.is_symlink():
        raise ArtifactError(
            "something is already there, and artifacts are never overwritten",
            where=str(path),
            hint=f"Give another {given}, or remove it first.",
        )


def read_record(path: Path, kind: type[Record]) -> Record:
    """A JSON file of an artifact as the record ``kind``.

    Raises:
        ArtifactError: the file cannot be read, is not JSON, or does not fit ``kind``.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return _record(kind, _json(raw, str(path)), str(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _json(raw: bytes, where: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # ValueError: also bytes that are no text
        got = " ".join(str(error).split())
        raise ArtifactError("is not JSON", where=where, got=got, hint=_COPY_AGAIN) from None


def _record(kind: type[Record], values: object, where: str) -> Record:
    """What is written into an artifact always fits: that it does not is the artifact's fault, not a user's."""
    try:
        return parse(kind, values, source=where)
    except ConfigError as error:
        raise ArtifactError(
            error.message, where=error.where, got=error.got, allowed=error.allowed, hint=error.hint
        ) from None


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError("cannot be read", where=str(path), got=error.strerror or str(error), hint=_COPY_AGAIN)


def _link(source: Path, target: Path) -> None:
    """Hard-link, so that both artifacts share pages; copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _check_name(name: str) -> None:
    """Names come from files that strangers send: none may leave the artifact's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ArtifactError("unsafe file name in an artifact", got=name, allowed="a relative path without '..'")
