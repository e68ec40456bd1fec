"""Options of a search: ``--target``, ``--time-budget`` and what they name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rankine.compression.search import SearchSpace, Target

__all__ = ["SearchOptions", "search_options"]

F = TypeVar("F", bound=Callable[..., Any])

_TARGETS = ("latency", "macs", "bytes")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class SearchOptions:
    """What was asked of the search.

    Attributes:
        targets: shares of the baseline by name.
    """

    wanted: bool
    targets: dict[str, float]
    space: Path | None
    work: Path | None
    latency_table: Path | None
    time_budget_s: float | None

    @property
    def given(self) -> bool:
        """Whether a search is asked for: by ``--search``, or by anything that only a search has."""
        return bool(self.wanted or self.targets or self.space or self.work or self.time_budget_s)

    def target(self) -> Target:
        """The shares as the search takes them."""
        from rankine.compression.search import Target

        return Target(**self.targets)

    def read_space(self) -> SearchSpace | None:
        """The candidates in ``--space``.

        Raises:
            ConfigError: the file is missing or has a wrong key.
        """
        from rankine.compression.search import SearchSpace
        from rankine.config import load_yaml

        return None if self.space is None else load_yaml(SearchSpace, self.space)


def _parse_targets(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for value in values:
        name, separator, number = value.partition("=")
        if not separator or name not in _TARGETS:
            raise click.BadParameter(f"'{value}' is no target: give one of {', '.join(f'{t}=SHARE' for t in _TARGETS)}")
        if name in found:
            raise click.BadParameter(f"the target of {name} is given twice")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:  # also refuses NaN
            raise click.BadParameter(f"'{number}' is no share of the baseline's {name}: give a number in (0, 1]")
        found[name] = share
    return found


def _parse_budget(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value)
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"'{value}' is no time: give a number with s, m or h, such as 30m")
    return float(match[1]) * _SECONDS[match[2]]


def search_options(command: F) -> Callable[..., Any]:
    """Add the options of a search; the command gets them as one ``search: SearchOptions``."""

    @click.option("--search", "wanted", is_flag=True, help="Search over many recipes, and end in a ladder.")
    @click.option(
        "--target",
        "targets",
        multiple=True,
        callback=_parse_targets,
        metavar="NAME=SHARE",
        help="Search for variants of at most this share of the baseline: latency (512 rows, PyTorch eager), macs or "
        "bytes; repeatable.",
    )
    @click.option(
        "--time-budget",
        "time_budget_s",
        callback=_parse_budget,
        metavar="TIME",
        help="Of the search, such as 30m or 2h; what is best by then is certified [default: none].",
    )
    @click.option("--space", type=click.Path(path_type=Path), help="Candidates (YAML) [default: by the model].")
    @click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the evaluations: a search that was interrupted goes on from there [default: OUT.search].",
    )
    @click.option(
        "--latency-table",
        type=click.Path(path_type=Path, dir_okay=False),
        help="What layers cost on this machine; measured if it is not there [default: kept by machine].",
    )
    @functools.wraps(command)
    def with_search(
        wanted: bool,
        targets: dict[str, float],
        time_budget_s: float | None,
        space: Path | None,
        work: Path | None,
        latency_table: Path | None,
        **others: Any,
    ) -> Any:
        options = SearchOptions(wanted, targets, space, work, latency_table, time_budget_s)
        return command(search=options, **others)

    return with_search
