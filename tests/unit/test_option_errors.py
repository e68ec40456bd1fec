"""Errors in the words of the command line: options where the configuration has fields."""

from __future__ import annotations

import pytest

from rankine.cli import main
from rankine.cli.option_errors import naming_options
from rankine.errors import ArtifactError, UsageError
from rankine.serving.config import ServeConfig


def _error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--floor", "0.002", "--variant", "small"), "--floor chooses among the ladder's variants"),
        (("--floor", "0.002", "--variant", "small"), "leave --variant and --engine out"),
        (("--tls-key", "a.key"), "--tls-cert and --tls-key go together"),
        (("--max-queue-rows", "5"), "--max-queue-rows is below --max-candidates"),
        (("--max-batch-ms", "nan"), "--max-batch-ms: "),
        (("--cores", "4096"), "--cores: "),
    ],
)
def test_serve_names_the_option_when_a_setting_is_wrong(
    options: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in _error_of(capsys, "serve", "nowhere", "--port", "0", *options)


def test_errors_keep_their_class_and_what_they_got_when_an_option_is_named() -> None:
    with pytest.raises(UsageError) as told, naming_options(ServeConfig, {"floor": "--lowest"}):
        raise UsageError(
            "no", where="serve: floor[2]", got=3, allowed="as `floor`, not `roof`", hint="See `max_wait_ms`."
        )
    error = told.value
    assert (error.where, error.got) == ("--lowest[2]", "3")
    assert error.allowed == "as --lowest, not `roof`"
    assert error.hint == "See --max-wait-ms."


def test_other_errors_pass_unchanged_when_they_are_about_no_option() -> None:
    raised = ArtifactError("is missing", where="floor")
    with pytest.raises(ArtifactError) as told, naming_options(ServeConfig):
        raise raised
    assert told.value is raised
