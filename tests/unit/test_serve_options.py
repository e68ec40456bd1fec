"""The options of ``rankine serve`` are the fields of its configuration: same names, defaults and bounds."""

from __future__ import annotations

import annotated_types
import click
import pytest

from rankine.cli import _rankine, main
from rankine.cli.serve import command
from rankine.serving.config import ServeConfig

OPTIONS = {option.name: option for option in command.params if option.name != "as_json"}
FIELDS = ServeConfig.model_fields
BOUNDED = sorted(name for name, field in FIELDS.items() if field.metadata)


def test_options_are_the_fields_of_the_configuration_when_both_are_listed() -> None:
    assert set(OPTIONS) == set(FIELDS)


def test_defaults_of_the_options_are_those_of_the_fields_when_nothing_is_given() -> None:
    root = click.Context(_rankine, **_rankine.context_settings)  # as on a command line: an option for help is kept
    given = command.make_context("serve", ["small"], parent=root).params
    fields = {name: field.default for name, field in FIELDS.items() if not field.is_required()}
    assert {name: given[name] for name in fields} == fields


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_of_an_option_are_those_of_its_field_when_it_has_any(name: str) -> None:
    low = high = None
    low_open = high_open = False
    for bound in FIELDS[name].metadata:
        match bound:
            case annotated_types.Ge(low):
                pass
            case annotated_types.Gt(low):
                low_open = True
            case annotated_types.Le(high):
                pass
            case annotated_types.Lt(high):
                high_open = True
    kind = OPTIONS[name].type
    assert isinstance(kind, click.IntRange | click.FloatRange)
    assert (kind.min, kind.min_open, kind.max, kind.max_open) == (low, low_open, high, high_open)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:80", "http://127.0.0.1:99999", "http://127.0.0.1:0", "http://host:port", "http://[::1", "http://"],
)
def test_remote_is_refused_when_it_is_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "small", "--remote", url])
    assert ended.value.code == 2
    assert "no address of a server, such as http://127.0.0.1:8000" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("option", ["--remote-workers", "--remote-timeout-ms"])
def test_option_about_remotes_is_refused_when_there_is_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "small", option, "5"])
    assert ended.value.code == 2
    assert f"{option} is about other servers: name them with --remote" in " ".join(capsys.readouterr().err.split())
    assert ServeConfig.model_validate(
        {"artifact": "a", "remote": ["http://a:1/x", "https://[::1]"], "remote_workers": 5}
    )
