"""``--margin``, which takes one margin a metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankine.certification import Margins

__all__ = ["margins_option", "max_drop_option"]

F = TypeVar("F", bound=Callable[..., Any])


def parse_margins(values: tuple[str, ...]) -> Margins:
    """Margins from ``0.001`` (AUC's, from which the others follow) and ``calibration=0.02`` or ``ndcg_at_10=none``.

    Raises:
        click.BadParameter: a value is no margin, a metric is not known or named twice.
    """
    from rankine.certification import Margins
    from rankine.config import parse
    from rankine.errors import UsageError, did_you_mean

    given: dict[str, float | None] = {}
    for value in values:
        name, _, number = value.rpartition("=")
        name = name or "auc"
        if name not in Margins.model_fields:
            raise click.BadParameter(f"no metric '{name}'. {did_you_mean(name, Margins.model_fields)}")
        if name in given:
            raise click.BadParameter(f"the margin of {name} is given twice")
        given[name] = _number(name, number)
    try:
        auc = given.get("auc", Margins().auc)
        defaults = Margins.of(0.0 if auc is None else auc).model_dump()
        return parse(Margins, defaults | given, source="--margin")
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def _number(name: str, text: str) -> float | None:
    if text == "none" and name != "auc":
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        allowed = "a number above 0" if name == "auc" else "a number above 0, or none"
        raise click.BadParameter(f"'{text}' is no margin of {name}: give {allowed}")
    return number


def _margins(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Margins:
    return parse_margins(values)


def _margins_option(*names: str) -> Callable[[F], F]:
    return click.option(
        *names,
        "margins",
        multiple=True,
        default=("0.001",),
        callback=_margins,
        metavar="[METRIC=]NUMBER",
        help="Largest loss that is accepted: of AUC; or METRIC=NUMBER, repeatable, of normalized_entropy (relative), "
        "calibration, group_auc or ndcg_at_10; METRIC=none reports and does not judge it. [default: 0.001; three times "
        "that of AUC for the others, 0.01 for calibration]",
    )


margins_option = _margins_option("--margin")
max_drop_option = _margins_option("--margin", "--max-auc-drop")
"""The same under the name that says what it is where a target is given beside it."""
