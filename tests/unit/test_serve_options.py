"""The options of ``rankine serve`` are the fields of its configuration: same names, defaults and bounds."""

from __future__ import annotations

import annotated_types
import click
import pytest

from rankine.cli import _rankine
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
