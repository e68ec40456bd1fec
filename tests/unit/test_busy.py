"""How busy a process is, measured on a real event loop."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from time import thread_time

import pytest

from rankine.serving import cores as cores_module
from rankine.serving.busy import Busy
from rankine.serving.cores import usable_cores


async def _share_of_a_busy_loop(cores: float) -> float:
    busy = Busy(cores)
    busy.start()
    assert busy.share == 0.0
    while busy.share == 0.0:
        end_s = thread_time() + 0.01
        while thread_time() < end_s:
            pass
        await asyncio.sleep(0)
    return busy.share


def test_busy_sees_the_event_loop_s_own_time_when_the_process_has_many_cores() -> None:
    assert 0.01 < asyncio.run(_share_of_a_busy_loop(1000.0)) <= 1.05


def test_busy_sees_the_cores_when_they_are_few() -> None:
    assert asyncio.run(_share_of_a_busy_loop(0.01)) > 1.05


@pytest.mark.parametrize(("limit", "cores"), [("50000 100000", 0.5), ("max 100000", None), ("100000000 1", None)])
def test_usable_cores_are_those_of_the_process_when_its_container_has_no_lower_limit(
    limit: str, cores: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(f"{limit}\n")
    monkeypatch.setattr(cores_module, "_CGROUP_LIMIT", file)
    assert usable_cores() == (cores or len(os.sched_getaffinity(0)))
