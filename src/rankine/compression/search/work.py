"""The work folder of a search: one file an evaluation, written when it is done, so that a search can go on later."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rankine.artifact import Artifact, Draft, read_record
from rankine.compression.recipe import Pass
from rankine.compression.search.records import Evaluation
from rankine.errors import ArtifactError
from rankine.models.network import Network, load_network, put_network

__all__ = ["WorkFolder"]

_FORM = "form"


class WorkFolder:
    """Evaluations by key.

    A key is the hash of all that decides an evaluation, so a folder can hold more than one search, and a search finds
    what it has done in any folder that it is given.

    Args:
        path: made when the first record is written.
        parent: the artifact whose baseline is compressed; networks are kept as its children and share its blobs.
        identity: what all evaluations depend on: version of Rankine, hashes of baseline, data and
            costs, the seed, the number of threads.
    """

    def __init__(self, path: Path, parent: Artifact, identity: Mapping[str, str | int]) -> None:
        self.path = path
        self._parent = parent
        self._identity = dict(identity)

    def key(self, passes: Sequence[Pass], fidelity: str) -> str:
        """Hash of a candidate at a fidelity, 24 hexadecimal digits."""
        decisive = [self._identity, [step.model_dump(mode="json") for step in passes], fidelity]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:24]

    def find(self, key: str, *, network: bool = False) -> Evaluation | None:
        """What is known of a key; where its ``network`` is needed, nothing without that.

        Raises:
            ArtifactError: the record cannot be read; remove the file, and it is evaluated again.
        """
        path = self._record(key)
        found = _read(path) if path.is_file() else None
        lost = network and found is not None and found.refused is None and not self._network(key).exists()
        return None if lost else found

    def put(self, evaluation: Evaluation, network: Network | None = None) -> None:
        """Keep an evaluation, and its network if given. The record is written last and at once: what was interrupted
        before is evaluated again, as a whole."""
        if network is not None:
            self._put_network(evaluation.key, network)
        path = self._record(evaluation.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(evaluation.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.replace(new, path)

    def network(self, key: str) -> Network:
        """The network that was kept.

        Raises:
            ArtifactError: there is none.
        """
        return load_network(Artifact.open(self._network(key)), _FORM)

    def _put_network(self, key: str, network: Network) -> None:
        if self._network(key).exists():  # its record was never written
            shutil.rmtree(self._network(key))
        draft = Draft("search", parent=self._parent)
        put_network(draft, network, name=_FORM, parent=None, steps=(), validation_auc=None, details={})
        draft.commit(self._network(key))

    def _record(self, key: str) -> Path:
        return self.path / "evaluations" / f"{key}.json"

    def _network(self, key: str) -> Path:
        return self.path / "networks" / key


def _read(path: Path) -> Evaluation:
    try:
        return read_record(path, Evaluation)
    except ArtifactError as error:
        raise ArtifactError(
            error.message, where=str(path), got=error.got, hint="Remove the file, and it is evaluated again."
        ) from None
