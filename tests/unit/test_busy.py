"""How busy a process is, measured on a real event loop."""

from __future__ import annotations

import asyncio
import os
from time import thread_time

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


def test_usable_cores_are_no_more_than_there_are() -> None:
    assert 0 < usable_cores() <= (os.cpu_count() or 1)
