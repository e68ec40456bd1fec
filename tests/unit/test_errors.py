"""The base of all errors: readable text, stable codes, fixed exit and HTTP statuses."""

from __future__ import annotations

import pytest

from rankine import errors
from rankine.errors import BadRequest, RankineError, did_you_mean

CLASSES = sorted(
    (thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, RankineError)),
    key=lambda kind: kind.__name__,
)


def test_error_text_holds_all_parts_when_all_are_given() -> None:
    error = RankineError(
        "is not known", where="candidates.ids[3]", got=17, allowed="0 to 9", hint="Rebuild the catalog."
    )
    assert str(error) == "candidates.ids[3]: is not known (got 17; allowed: 0 to 9). Rebuild the catalog."
    assert str(RankineError("is not known")) == "is not known"


@pytest.mark.parametrize(("got", "shown"), [("a b", "a b"), (0, "0"), (["x"], "['x']"), ("", "")])
def test_error_shows_got_when_it_is_falsy_or_no_string(got: object, shown: str) -> None:
    error = BadRequest("is wrong", got=got)
    assert str(error) == f"is wrong (got {shown})"
    assert error.as_dict()["got"] == shown


def test_error_shortens_got_when_it_is_long() -> None:
    error = BadRequest("is wrong", got="x" * 10_000)
    assert len(str(error)) < 300
    assert len(error.as_dict()["got"]) == 200
    assert error.as_dict()["got"].endswith("x…")


def test_error_dict_leaves_out_fields_when_they_are_not_given() -> None:
    assert BadRequest("is wrong", where="top_k").as_dict() == {
        "code": "bad_request",
        "message": "is wrong",
        "where": "top_k",
    }


def test_error_codes_are_unique_when_all_classes_are_listed() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(CLASSES) >= 15
    assert len(set(codes)) == len(codes)
    assert {kind.__name__ for kind in CLASSES} == set(errors.__all__) - {"did_you_mean"}


@pytest.mark.parametrize(
    ("name", "exit_status", "http_status"),
    [
        ("UsageError", 2, 400),
        ("ConfigError", 2, 400),
        ("DataError", 2, 400),
        ("ArtifactError", 2, 500),
        ("EngineError", 1, 500),
        ("EngineMissing", 5, 500),
        ("QualityGateFailed", 3, 500),
        ("CertificateRequired", 3, 500),
        ("SloNotMet", 4, 500),
        ("BadRequest", 2, 400),
        ("PayloadTooLarge", 2, 413),
        ("ModelNotFound", 2, 404),
        ("CapacityExceeded", 1, 503),
        ("DeadlineExceeded", 1, 504),
    ],
)
def test_error_statuses_are_fixed_when_class_is_public(name: str, exit_status: int, http_status: int) -> None:
    kind = getattr(errors, name)
    assert (kind.exit_status, kind.http_status) == (exit_status, http_status)


def test_did_you_mean_names_closest_when_one_is_close() -> None:
    assert did_you_mean("opnvino", ["onnxruntime", "openvino"]) == "Did you mean 'openvino'?"


def test_did_you_mean_lists_known_when_none_is_close() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == "Known: a, b."
    assert did_you_mean("zzz", []) is None
    many = did_you_mean("zzz", [f"name{i:02}" for i in range(20)])
    assert many is not None
    assert many.endswith("name11, ….")
