"""What several server processes share: the board, the cores, one text for Prometheus."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rankine.config import parse
from rankine.errors import ArtifactError, ConfigError, RankineError
from rankine.policy.autoscale import Signals
from rankine.serving import ServeConfig
from rankine.serving.board import Board, Slot, State
from rankine.serving.child import Child
from rankine.serving.process import ProcessSettings
from rankine.serving.scrape import autoscale_text, merged, processes_text
from rankine.serving.supervisor import share_cores
from rankine.serving.told_errors import error_of

SLOT = Slot(12.5, State.READY, 4321, 0.25, 0.125, 700, 0.5, 0.25, 0.0625, 12)


def test_board_shows_to_another_process_what_was_put() -> None:
    board, fd = Board.create(3)
    board.put(1, SLOT)
    program = "import sys; from rankine.serving.board import Board; print(Board(int(sys.argv[1]))[1])"
    found = subprocess.run(
        [sys.executable, "-c", program, str(fd)], pass_fds=(fd,), capture_output=True, text=True, check=True
    )
    os.close(fd)
    assert found.stdout.strip() == str(SLOT)
    assert len(board) == 3
    assert board[0] == board[2] == Slot()
    assert board.beat_of(1) == 12.5
    board.close()


def test_board_tells_that_all_leave_when_one_was_told() -> None:
    board, fd = Board.create(2)
    other = Board(fd)
    os.close(fd)
    assert not other.leaving
    board.leave()
    assert other.leaving
    board.put(0, SLOT)
    board.mark(0, State.DOWN)
    assert other[0] == Slot(state=State.DOWN)


@pytest.mark.parametrize(
    ("cores", "processes", "shares"),
    [
        ((0, 1, 2, 3), 2, ((0, 1), (2, 3))),
        ((0, 2, 4, 6, 8), 2, ((0, 2), (4, 6, 8))),
        ((5, 7), 2, ((5,), (7,))),
        ((0,), 2, ()),
        ((), 2, ()),
    ],
)
def test_cores_are_divided_when_there_are_enough(
    cores: tuple[int, ...], processes: int, shares: tuple[tuple[int, ...], ...]
) -> None:
    assert share_cores(cores, processes) == shares


TEXT = b"""# HELP a_total How many
# TYPE a_total counter
a_total{kind="x y"} 1.0
# HELP b Plain
# TYPE b gauge
b 2.5
"""
OTHER = b"""# HELP b Plain
# TYPE b gauge
b 7.0
# HELP c New
# TYPE c gauge
c 1.0
"""


def test_scrape_has_each_metric_once_when_several_processes_count_it() -> None:
    families = {one.name: one for one in text_string_to_metric_families(merged({1: OTHER, 0: TEXT}).decode())}
    assert list(families) == ["a", "b", "c"]
    assert [(one.labels, one.value) for one in families["a"].samples] == [({"process": "0", "kind": "x y"}, 1.0)]
    assert [(one.labels, one.value) for one in families["b"].samples] == [
        ({"process": "0"}, 2.5),
        ({"process": "1"}, 7.0),
    ]


def test_autoscale_text_is_read_by_prometheus_when_quality_bends() -> None:
    text = autoscale_text(Signals(0.5, 0.0, 0.001), 0.5).decode()
    families = {one.name: one.samples for one in text_string_to_metric_families(text)}
    assert families["rankine_desired_replicas"][0].value == 2.0
    reasons = {one.labels["reason"]: one.value for one in families["rankine_desired_replicas_reason"]}
    assert reasons == {"utilization": 0.0, "refusals": 0.0, "quality_debt": 1.0}


def test_scrape_tells_of_a_process_that_is_down_when_others_answer() -> None:
    board, fd = Board.create(2)
    os.close(fd)
    board.put(1, SLOT)
    board.count_start(0)
    board.count_start(1)
    board.count_start(1)
    board.mark(0, State.DOWN)  # its starts stay counted
    families = {one.name: one.samples for one in text_string_to_metric_families(processes_text(board).decode())}
    assert [one.value for one in families["rankine_process_up"]] == [0.0, 1.0]
    assert [one.value for one in families["rankine_process_starts"]] == [1.0, 2.0]


def never(number: int, tell_fd: int) -> ProcessSettings:
    raise AssertionError("not started")


def test_pause_before_a_restart_doubles_when_a_process_fails_again_and_again() -> None:
    child = Child(0, never)
    pauses = [child.pause_s(float(at), steady_s=30.0, first_s=0.25, longest_s=1.5) for at in range(6)]
    assert pauses == [0.0, 0.25, 0.5, 1.0, 1.5, 1.5]
    child.ready, child.ready_s = {"text": ""}, 10.0
    assert child.pause_s(41.0, steady_s=30.0, first_s=0.25, longest_s=1.5) == 0.0


def test_silence_adds_up_when_the_beat_stands_still() -> None:
    child = Child(0, never)
    assert [child.silent_for(SLOT, 0.5) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert child.silent_for(replace(SLOT, beat_s=13.0), 0.5) == 0.0
    stopped = replace(SLOT, beat_s=13.0, state=State.DOWN)
    assert [child.silent_for(stopped, 0.5) for _ in range(2)] == [0.0, 0.5]


def test_error_of_a_process_is_raised_as_it_was_when_it_could_not_start() -> None:
    error = ArtifactError("has no variants", where="x", got="y", allowed="z", hint="Do that.")
    again = error_of(error.as_dict())
    assert type(again) is ArtifactError
    assert str(again) == str(error)
    assert type(error_of({"code": "quite new", "message": "m"})) is RankineError


def test_config_is_refused_when_devices_of_several_processes_name_cores() -> None:
    device = {"engine": "native", "cores": [0]}
    values = {"artifact": "x", "device_pool": [device], "processes": 2}
    with pytest.raises(ConfigError, match="`processes` divide the cores"):
        parse(ServeConfig, values)
    assert parse(ServeConfig, values | {"processes": 1}).device_pool[0].cores == (0,)


def test_process_settings_are_the_same_when_they_went_through_a_command_line() -> None:
    config = ServeConfig(artifact=Path("x"), processes=1, cores=(0, 1))
    settings = ProcessSettings(
        config=config, number=1, parent=2, board_fd=3, listener_fd=4, tell_fd=5, folder=Path("/tmp/f"), cores=1.5
    )
    assert ProcessSettings.model_validate_json(settings.model_dump_json()) == settings
