"""Configuration: frozen, unknown keys refused with a suggestion, one error that names the key, YAML round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from rankine.config import Frozen, dump_yaml, load_yaml, parse
from rankine.errors import ConfigError


class Square(Frozen):
    kind: Literal["square"] = "square"
    side_m: float = Field(gt=0)


class Circle(Frozen):
    kind: Literal["circle"] = "circle"
    radius_m: float = Field(gt=0)


class Drawing(Frozen):
    title: str
    copies: int = 1
    tags: tuple[str, ...] = ()
    shapes: tuple[Annotated[Square | Circle, Field(discriminator="kind")], ...] = ()


def test_parse_returns_config_when_values_fit() -> None:
    drawing = parse(Drawing, {"title": "a", "shapes": [{"kind": "circle", "radius_m": 2}]})
    assert drawing == Drawing(title="a", shapes=(Circle(radius_m=2.0),))


def test_config_refuses_change_when_built() -> None:
    drawing = Drawing(title="a")
    with pytest.raises(ValidationError, match="frozen"):
        drawing.copies = 2  # type: ignore[misc]


def test_parse_suggests_key_when_unknown_at_top() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, {"title": "a", "copeis": 2}, source="drawing.yaml")
    assert caught.value.where == "drawing.yaml: copeis"
    assert caught.value.hint == "Did you mean 'copies'?"


def test_parse_suggests_key_when_unknown_in_union() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, {"title": "a", "shapes": [{"kind": "square", "side_m": 1, "sidem": 1}]})
    assert caught.value.hint == "Did you mean 'side_m'?"
    assert caught.value.where is not None
    assert caught.value.where.startswith("config: shapes.0.")
    assert caught.value.where.endswith(".sidem")


def test_parse_names_key_and_value_when_value_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, {"title": "a", "copies": "many"})
    assert caught.value.where == "config: copies"
    assert caught.value.got == "'many'"
    assert "integer" in caught.value.message


def test_parse_says_missing_when_key_is_absent() -> None:
    with pytest.raises(ConfigError, match="config: title: field required") as caught:
        parse(Drawing, {})
    assert caught.value.got is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "not readable as YAML"),
        ("- title", "must be a mapping"),
        ("", "must be a mapping"),
        ("title: !!python/object/apply:os.getcwd []", "not readable as YAML"),
    ],
)
def test_load_yaml_names_file_when_content_is_bad(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "drawing.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(Drawing, path)
    assert caught.value.where == str(path)


def test_load_yaml_names_file_when_it_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "drawing.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_yaml(Drawing, path)
    with pytest.raises(ConfigError, match="no such file"):
        load_yaml(Drawing, tmp_path / "absent.yaml")


@given(
    title=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
    copies=st.integers(0, 10**9),
    tags=st.lists(st.sampled_from(["yes", "no", "null", "1", "0x1f", "2020-01-01", "~", "a: b", "#"])),
    radius_m=st.floats(1e-300, 1e300),
)
def test_dump_yaml_round_trips_when_config_is_any(
    tmp_path_factory: pytest.TempPathFactory, title: str, copies: int, tags: list[str], radius_m: float
) -> None:
    drawing = Drawing(title=title, copies=copies, tags=tuple(tags), shapes=(Circle(radius_m=radius_m),))
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    path.write_text(dump_yaml(drawing), encoding="utf-8")
    assert load_yaml(Drawing, path) == drawing
