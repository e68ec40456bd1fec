"""Configuration: frozen, unknown keys refused with a suggestion, one error that names the key, YAML round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from rankine.config import Frozen, dump_yaml, load_yaml, parse, read_mapping
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
    corners: tuple[float, ...] | None = Field(None, min_length=3)
    shapes: tuple[Annotated[Square | Circle, Field(discriminator="kind")], ...] = ()
    frame: Annotated[Square | Circle, Field(discriminator="kind")] | None = None
    scale: int | Literal["fit"] = 1
    names: dict[str, Square] = Field(default_factory=dict)


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
    assert caught.value.where == "config: shapes.0.sidem"


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
    ("values", "where"),
    [
        ({"shapes": [{"kind": "circle"}]}, "shapes.0.radius_m"),
        ({"shapes": [{"kind": "circle", "radius_m": "wide"}]}, "shapes.0.radius_m"),
        ({"frame": {"kind": "square", "circle": 1, "side_m": 1}}, "frame.circle"),
        ({"scale": "wide"}, "scale"),
        ({"names": {"square": {"side_m": -1}}}, "names.square.side_m"),
        ({"names": {"a": {"sidem": 1, "side_m": 1}}}, "names.a.sidem"),
        ({"frame": 3}, "frame"),
    ],
)
def test_parse_names_only_keys_of_the_file_when_a_union_lies_on_the_way(values: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Drawing, {"title": "a", **values})
    assert caught.value.where == f"config: {where}"


@pytest.mark.parametrize("values", [{"shapes": [{"kind": "squaer"}]}, {"frame": {"kind": "squaer", "side_m": 1}}])
def test_parse_suggests_the_tag_when_misspelt(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"kind: unknown kind .got 'squaer'.*Did you mean 'square'"):
        parse(Drawing, {"title": "a", **values})


def test_parse_lists_the_tags_when_none_is_given() -> None:
    with pytest.raises(ConfigError, match=r"shapes\.0\.kind: field required .allowed: circle, square"):
        parse(Drawing, {"title": "a", "shapes": [{"side_m": 1}]})


def test_parse_speaks_of_lists_when_a_list_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"tags: must be a list .got \{'kind': 'square'\}"):
        parse(Drawing, {"title": "a", "tags": {"kind": "square"}})
    with pytest.raises(ConfigError, match=r"corners: too few values .allowed: at least 3"):
        parse(Drawing, {"title": "a", "corners": [1.0]})


@pytest.mark.parametrize("values", [None, 3, [], "title"])
def test_parse_is_refused_when_values_are_no_mapping(values: object) -> None:
    with pytest.raises(ConfigError, match=r"drawing\.yaml: must be a mapping .got"):
        parse(Drawing, values, source="drawing.yaml")


def test_parse_is_refused_when_a_key_is_no_text() -> None:
    with pytest.raises(ConfigError, match="must be text"):
        parse(Drawing, {"title": "a", 1: 2})


def test_read_mapping_returns_plain_values_when_the_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "drawing.yaml"
    path.write_text("title: a\nother: [1, 2]\n", encoding="utf-8")
    assert read_mapping(path) == {"title": "a", "other": [1, 2]}


def test_load_yaml_is_refused_when_it_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder") as caught:
        load_yaml(Drawing, tmp_path)
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "not readable as YAML"),
        ("- title", "must be a mapping"),
        ("", "must be a mapping"),
        ("title: 2024-13-45", "not readable as YAML"),
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
