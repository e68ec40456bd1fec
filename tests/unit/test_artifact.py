"""Artifacts on a real disk: all or nothing, never overwritten, shared contents, nothing trusted."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankine.artifact import Artifact, Draft, refuse_existing
from rankine.config import Frozen
from rankine.errors import ArtifactError


class Note(Frozen):
    text: str


@pytest.fixture
def parent(tmp_path: Path) -> Artifact:
    draft = Draft("train", name="model")
    draft.put_bytes("a.txt", b"alpha")
    draft.put_array("tables/user.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    draft.put_json("note.json", Note(text="hello"))
    return draft.commit(tmp_path / "parent")


def edit_manifest(artifact: Artifact, **changes: Any) -> Path:
    path = artifact.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return artifact.path


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_contents_are_equal_when_read_back(parent: Artifact) -> None:
    opened = Artifact.open(parent.path)
    assert opened.names() == ["a.txt", "note.json", "tables/user.npy"]
    assert opened.names("tables/") == ["tables/user.npy"]
    assert "a.txt" in opened
    assert opened.read_bytes("a.txt") == b"alpha"
    assert opened.read_json("note.json", Note) == Note(text="hello")
    assert opened.array("tables/user.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (opened.folder("tables") / "user.npy").is_file()
    assert opened.digest == parent.digest
    opened.verify()


def test_array_is_mapped_read_only_when_opened(parent: Artifact) -> None:
    array = parent.array("tables/user.npy")
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_array_is_equal_when_empty(tmp_path: Path) -> None:
    draft = Draft("train", name="model")
    draft.put_array("empty.npy", np.zeros(0, np.int64))
    assert draft.commit(tmp_path / "m").array("empty.npy").shape == (0,)


def test_array_is_refused_when_it_holds_python_objects(tmp_path: Path) -> None:
    draft = Draft("train", name="model")
    with pytest.raises(ValueError, match="allow_pickle"):
        draft.put_array("objects.npy", np.array([{}], object))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    draft.put_file("objects.npy", tmp_path / "objects.npy")
    with pytest.raises(ArtifactError, match=r"objects\.npy: is not a readable array .got .*Python objects"):
        draft.commit(tmp_path / "m").array("objects.npy")


def replace_content(artifact: Artifact, name: str, content: bytes) -> Artifact:
    """A child whose manifest fits, with ``content`` under ``name``: what a damaged writer could leave."""
    draft = Draft("damage", parent=artifact)
    draft.put_bytes(name, content)
    return draft.commit(artifact.path.parent / "damaged")


def npy(header: str) -> bytes:
    """An ``.npy`` file with this header and eight bytes of data."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"3", b"[]", b'{"txet": "x"}'])
def test_record_is_refused_with_the_file_named_when_it_is_garbage(parent: Artifact, content: bytes) -> None:
    damaged = replace_content(parent, "note.json", content)
    with pytest.raises(ArtifactError, match=r"files/note\.json") as caught:
        damaged.read_json("note.json", Note)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage that is no array",
        b"PK\x03\x04 an archive",
        npy("{'descr': '<f4', "),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }"),
    ],
    ids=["empty", "text", "archive", "cut", "huge", "short"],
)
def test_array_is_refused_with_the_file_named_when_it_is_garbage(parent: Artifact, content: bytes) -> None:
    damaged = replace_content(parent, "tables/user.npy", content)
    with pytest.raises(ArtifactError, match=r"files/tables/user\.npy: is not a readable array"):
        damaged.array("tables/user.npy")


def test_open_is_refused_when_the_readable_files_are_missing(parent: Artifact) -> None:
    shutil.rmtree(parent.path / "files")
    with pytest.raises(ArtifactError, match=r"the file 'a\.txt' is missing"):
        Artifact.open(parent.path)
    with pytest.raises(ArtifactError, match=r"files/a\.txt: cannot be read"):
        parent.read_bytes("a.txt")
    with pytest.raises(ArtifactError, match=r"files/note\.json: cannot be read"):
        parent.read_json("note.json", Note)
    with pytest.raises(ArtifactError, match=r"files/tables/user\.npy: cannot be read"):
        parent.array("tables/user.npy")


def test_open_is_refused_when_the_manifest_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ArtifactError, match=r"manifest\.json: cannot be read"):
        Artifact.open(tmp_path)


@pytest.mark.parametrize("committed", [False, True])
def test_draft_leaves_nothing_behind_when_given_up_or_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    draft = Draft("train", name="model")
    draft.put_bytes("a.txt", b"alpha")
    assert len(list(scratch.iterdir())) == 1
    if committed:
        draft.commit(tmp_path / "m")
    else:
        del draft
        gc.collect()
    assert list(scratch.iterdir()) == []


def test_existing_path_is_refused_when_it_is_only_a_link_to_nowhere(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "free")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"link: something is already there.*Give another --out"):
        refuse_existing(tmp_path / "link")


def test_child_shares_blobs_as_hard_links_when_derived(parent: Artifact, tmp_path: Path) -> None:
    draft = Draft("compress", parent=parent)
    draft.put_bytes("a.txt", b"beta")
    child = draft.commit(tmp_path / "child")
    shared = child.manifest.files["tables/user.npy"].sha256
    assert (child.path / "blobs" / shared).samefile(parent.path / "blobs" / shared)
    assert child.read_bytes("a.txt") == b"beta"
    assert parent.read_bytes("a.txt") == b"alpha"
    assert child.manifest.parent == parent.digest
    assert child.name == parent.name
    assert child.manifest.version != parent.manifest.version
    child.verify()
    parent.verify()


def test_child_works_when_the_parent_is_deleted(parent: Artifact, tmp_path: Path) -> None:
    child = Draft("compress", parent=parent).commit(tmp_path / "child")
    shutil.rmtree(parent.path)
    Artifact.open(child.path).verify()
    assert child.read_bytes("a.txt") == b"alpha"


def test_removed_files_are_gone_from_the_child_only_when_removed(parent: Artifact, tmp_path: Path) -> None:
    draft = Draft("compress", parent=parent)
    draft.remove("tables/")
    child = draft.commit(tmp_path / "child")
    assert child.names() == ["a.txt", "note.json"]
    assert child.size_bytes() < parent.size_bytes()
    assert "tables/user.npy" in parent


def test_contents_are_stored_once_when_equal(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("x", "deep/y"):
        (tmp_path / "folder" / name).write_bytes(b"same")
    draft = Draft("train", name="model")
    draft.put_folder("all", tmp_path / "folder")
    artifact = draft.commit(tmp_path / "m")
    assert artifact.names() == ["all/deep/y", "all/x"]
    assert artifact.size_bytes() == 4
    assert len(list((artifact.path / "blobs").iterdir())) == 1


def test_nothing_is_left_when_commit_fails_halfway(parent: Artifact, tmp_path: Path) -> None:
    draft = Draft("compress", parent=parent)
    draft.put_bytes("new.txt", b"new")
    (parent.path / "blobs" / parent.manifest.files["tables/user.npy"].sha256).unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        draft.commit(tmp_path / "child")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["artifact", "file", "folder"])
def test_commit_is_refused_when_something_is_there(parent: Artifact, tmp_path: Path, kind: str) -> None:
    there = parent.path if kind == "artifact" else tmp_path / "there"
    if kind == "file":
        there.write_text("precious")
    elif kind == "folder":
        there.mkdir()
    draft = Draft("train", name="other")
    draft.put_bytes("a.txt", b"other")
    with pytest.raises(ArtifactError, match="never overwritten"):
        draft.commit(there)
    assert parent.read_bytes("a.txt") == b"alpha"
    assert draft.commit(tmp_path / "free").read_bytes("a.txt") == b"other"


def test_second_commit_is_refused_when_committed_before(parent: Artifact, tmp_path: Path) -> None:
    draft = Draft("compress", parent=parent)
    draft.commit(tmp_path / "first")
    with pytest.raises(ArtifactError, match="committed once"):
        draft.commit(tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_verify_names_the_file_when_a_blob_was_changed(parent: Artifact) -> None:
    overwrite(parent.path / "blobs" / parent.manifest.files["a.txt"].sha256, b"ALPHA")
    opened = Artifact.open(parent.path)
    with pytest.raises(ArtifactError, match=r"'a\.txt' was changed"):
        opened.verify()


def test_verify_names_the_file_when_its_link_was_replaced(parent: Artifact) -> None:
    view = parent.path / "files" / "a.txt"
    view.unlink()
    view.write_bytes(b"alpha")
    parent.verify()  # a copy that followed the links has equal contents, and is fine
    view.write_bytes(b"ALPHA")
    with pytest.raises(ArtifactError, match=r"'a\.txt' was changed"):
        parent.verify()
    view.unlink()
    with pytest.raises(ArtifactError, match=r"'a\.txt' is missing"):
        parent.verify()


def test_blobs_are_read_only_when_committed(parent: Artifact) -> None:
    modes = {path.stat().st_mode & 0o777 for path in (parent.path / "blobs").iterdir()}
    assert modes == {0o444}


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_open_is_refused_when_a_blob_is_missing_or_of_another_size(parent: Artifact, damage: str) -> None:
    blob = parent.path / "blobs" / parent.manifest.files["a.txt"].sha256
    if damage == "missing":
        blob.unlink()
    else:
        overwrite(blob, b"al")
    with pytest.raises(ArtifactError, match=r"'a\.txt' is missing or has another size"):
        Artifact.open(parent.path)


UNSAFE = ["../evil", "/etc/passwd", "a/../../evil", "a\\..\\evil", "", ".", "a\0b"]


@pytest.mark.parametrize("name", UNSAFE)
def test_open_is_refused_when_a_name_leaves_the_folder(parent: Artifact, name: str) -> None:
    blob = parent.manifest.files["a.txt"].model_dump()
    with pytest.raises(ArtifactError, match="unsafe file name"):
        Artifact.open(edit_manifest(parent, files={name: blob}))


@pytest.mark.parametrize("name", UNSAFE)
def test_put_is_refused_when_a_name_leaves_the_folder(name: str) -> None:
    with pytest.raises(ArtifactError, match="unsafe file name"):
        Draft("train", name="model").put_bytes(name, b"")


def test_open_is_refused_when_a_hash_is_a_path(parent: Artifact) -> None:
    files = {"a.txt": {"sha256": "../../../etc/passwd", "size_bytes": 1}}
    with pytest.raises(ArtifactError, match="sha256"):
        Artifact.open(edit_manifest(parent, files=files))


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_open_is_refused_when_the_version_is_unknown(parent: Artifact, version: object) -> None:
    with pytest.raises(ArtifactError, match=r"unknown artifact version.*allowed: 1"):
        Artifact.open(edit_manifest(parent, schema_version=version))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\x00{", "is not JSON"),
        (b"[]", "unknown artifact version"),
        (None, "has no manifest"),
    ],
)
def test_open_is_refused_when_the_manifest_is_not_one(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(tmp_path)


def test_missing_file_is_refused_with_a_suggestion_when_misspelt(parent: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"Did you mean 'note\.json'\?"):
        parent.read_bytes("notes.json")
    with pytest.raises(ArtifactError, match="no folder 'graphs'"):
        parent.folder("graphs")


def test_evidence_moves_with_the_content_when_artifacts_differ(parent: Artifact, tmp_path: Path) -> None:
    draft = Draft("compress", parent=parent)
    draft.put_bytes("b.txt", b"beta")
    child = draft.commit(tmp_path / "child")
    assert parent.evidence().parent == tmp_path / "parent.evidence"
    assert parent.evidence().name == parent.digest[:16]
    assert child.evidence().name != parent.evidence().name


def test_version_is_equal_when_contents_are_equal(tmp_path: Path) -> None:
    versions = set()
    for folder in ("one", "two"):
        draft = Draft("train", name="model")
        draft.put_bytes("a.txt", b"alpha")
        versions.add(draft.commit(tmp_path / folder).manifest.version)
    assert len(versions) == 1


def test_artifact_works_when_it_is_moved(parent: Artifact, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "moved"
    os.rename(parent.path, moved)
    opened = Artifact.open(moved)
    opened.verify()
    assert opened.read_bytes("a.txt") == b"alpha"
