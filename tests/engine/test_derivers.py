"""What an artifact says is to be stored of items: what its builds read, and under which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.small_served import ENGINE, encoded_batch, write_small_artifact
from rankine.artifact import Artifact
from rankine.catalog.derivers import derivers_of, names_in_batches
from rankine.compilation.binding import Settings
from rankine.compilation.compile import compile_artifact, is_split
from rankine.models.variant import BASELINE

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Built for one engine in parts, which store of items in FP32."""
    return write_small_artifact(tmp_path_factory.mktemp("derivers") / "small")


def _compiled(small: Artifact, engine: str, out: Path) -> Artifact:
    """Taken apart anew, with INT8 rows, and built for one engine."""
    return compile_artifact(
        small, engines=[engine], split=Settings(storage="int8"), verify_batch=encoded_batch(50, 1), out=out
    )


def test_nothing_is_stored_when_no_build_runs_in_the_parts(small: Artifact, tmp_path: Path) -> None:
    eager = _compiled(small, "eager", tmp_path / "eager")
    assert is_split(eager, BASELINE)
    assert derivers_of(eager) == ()
    [deriver] = derivers_of(small)
    assert (deriver.key.variant, deriver.key.storage) == (BASELINE, "float32")


def test_every_array_has_a_name_in_batches_when_rows_are_int8(small: Artifact, tmp_path: Path) -> None:
    [deriver] = derivers_of(_compiled(small, ENGINE, tmp_path / "int8"))
    stem = f"derived/{BASELINE}/{deriver.key.graph}/int8"
    assert len(deriver.widths) > 1
    assert names_in_batches(deriver) == {
        f"{stem}/{column}{of_file}": f"rankine.catalog.{column}{of_batch}"
        for column in deriver.widths
        for of_file, of_batch in ((".rows", ""), (".scale", ".scale"), (".bias", ".bias"))
    }
