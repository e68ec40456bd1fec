"""A writer that is killed at any moment loses nothing that it acknowledged, and leaves no half generation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT
from rankine.catalog import CatalogReader, CatalogWriter
from rankine.errors import ArtifactError
from unit.catalog_items import check_view, write_first

pytestmark = pytest.mark.e2e
KILLS = int(os.environ.get("RANKINE_CATALOG_KILLS", "40"))
"""The long run has 500."""
SEED = int(os.environ.get("RANKINE_CATALOG_SEED", "0"))


def environ() -> dict[str, str]:
    """Of a process that imports these sources and these tests' helpers."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.timeout(60 + 5 * KILLS)
def test_nothing_acknowledged_is_lost_when_writers_are_killed(tmp_path: Path) -> None:
    script = ROOT / "tests" / "e2e" / "catalog_crashes.py"
    command = [sys.executable, str(script), str(tmp_path), str(KILLS), str(SEED)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert found["kills"] == KILLS
    assert found["generations"] > KILLS // 4  # writers got on between the kills
    assert len(found["places"]) > min(KILLS, 40) // 5  # and died in many places


def test_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    code = "import sys, time; from rankine.catalog import CatalogWriter\n"
    code += "writer = CatalogWriter(sys.argv[1]); print('open', flush=True); time.sleep(600)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True, env=environ()
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(ArtifactError, match=f"a writer in process {holder.pid}"):
            CatalogWriter(tmp_path / "c")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with CatalogWriter(tmp_path / "c") as writer:
        assert writer.generation == 1
    check_view(CatalogReader(tmp_path / "c").view, made)


def test_readers_see_whole_generations_when_another_process_writes_and_compacts(tmp_path: Path) -> None:
    made = write_first(tmp_path / "c")
    code = "import sys, time\nfrom unit.catalog_items import advance, preparer\n"
    code += "from rankine.catalog import CatalogWriter\n"
    code += "made = preparer()\n"
    code += "with CatalogWriter(sys.argv[1]) as writer:\n"
    code += "    while writer.generation < 14:\n"
    code += "        advance(writer, made)\n"
    code += "        time.sleep(0.02)\n"  # else a reader that has to wait for a core would see the last one alone
    code += "        if writer.generation % 4 == 0: writer.compact()\n"
    writing = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "c")], env=environ())
    reader = CatalogReader(tmp_path / "c")
    seen = {reader.view.generation}
    try:
        while writing.poll() is None:
            view = reader.refresh()
            if view.generation not in seen:
                seen.add(view.generation)
                check_view(view, made)
            check_view(CatalogReader(tmp_path / "c").view, made)
            time.sleep(0.002)
    finally:
        writing.kill()
    assert writing.wait() == 0
    assert reader.refresh().generation == 14
    assert len(seen) > 2
