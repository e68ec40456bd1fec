"""``rankine simulate``."""

from __future__ import annotations

import json

import pytest

from rankine.cli import main

PROFILE = "1:0.6,64:1.9,512:10.8,2048:41.5"


def _run(*options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *options])
    return int(ended.value.code or 0)


def test_simulate_finds_the_sustainable_rate_when_no_rate_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--profile", PROFILE, "--duration", "5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 80 < found["offered_rps"] < 190
    assert found["missed"] <= 0.01


def test_simulate_plans_by_the_fast_device_when_a_pool_is_given_in_any_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = "1:1.8,64:5.7,512:32.4,2048:124.5"
    found = []
    for profiles, status in (((PROFILE,), 4), ((PROFILE, slow), 0), ((slow, PROFILE), 0)):
        options = [word for profile in profiles for word in ("--profile", profile)]
        assert _run(*options, "--duration", "10", "--rate", "150", "--json") == status
        found.append(json.JSONDecoder().raw_decode(capsys.readouterr().out)[0])  # an error may follow
    assert found[2] == found[1]
    assert found[1]["goodput_rps"] > found[0]["goodput_rps"]


def test_simulate_exits_with_4_when_the_rate_is_too_high(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--profile", PROFILE, "--duration", "5", "--rate", "400") == 4
    told = capsys.readouterr()
    assert "goodput" in told.out
    assert "does not meet" in told.err


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("--profile", "1:x"), "--profile"),
        (("--profile", "512"), "--profile"),
        (("--profile", "0:1"), "profile[0]"),
        (("--profile", PROFILE, "--candidates", "some"), "--candidates"),
        (("--profile", PROFILE, "--rate", "0"), "--rate: "),
        (("--profile", PROFILE, "--duration", "0"), "--duration: "),
        (("--profile", PROFILE, "--slo-ms", "0"), "--slo-ms: "),
        (("--profile", PROFILE, "--noise", "-1"), "--noise: "),
        (("--profile", PROFILE, "--noise", "nan"), "--noise: "),
        (("--profile", PROFILE, "--rate", "1e9", "--duration", "2"), "lower --rate or --duration"),
        (("--profile", "5:1,1:2"), "1:2 and 5:1"),
    ],
)
def test_simulate_says_what_is_wrong_when_an_option_is(
    options: tuple[str, ...], where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*options) == 2
    assert where in capsys.readouterr().err
