"""What the engine benchmark found: a record a combination, and all of one run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rankine.config import Frozen

__all__ = ["FORMS", "EngineBench", "EngineTiming", "Form"]

Form = Literal["parts", "whole"]
"""How a build is run: in parts, by when their values are known, or as the whole graph."""
FORMS: tuple[Form, Form] = ("parts", "whole")
"""In the order in which they are timed."""


class EngineTiming(Frozen):
    """One engine on one variant at one number of rows; times are milliseconds of ``Runner.run``, lookup included.

    The rows are candidates of one request, and what is stored of an item is not computed.

    Attributes:
        form: a variant that was built in parts is also timed as the whole graph.
        threads: of one call.
        error: why it has no times. An engine that runs on an emulator has none: they would not be the chip's.
    """

    variant: str
    engine: str
    form: Form = "whole"
    rows: int
    threads: int = 1
    calls: int = 0
    p50_ms: float | None = None
    p25_ms: float | None = None
    p75_ms: float | None = None
    min_ms: float | None = None
    error: str | None = None


class EngineBench(Frozen):
    """All timings of one run.

    Attributes:
        threads: the first that were asked for: what :meth:`timing` is of.
        control_p50_ms: of the fixed control.
        control_spread: ``(p75 - p25) / p50`` of the control over the rounds.
        noisy: whether the control moved by more than it may.
    """

    schema_version: Literal[1] = 1
    artifact: str
    artifact_digest: str
    threads: int
    rounds: int
    timings: tuple[EngineTiming, ...]
    control_p50_ms: float
    control_spread: float
    noisy: bool
    environment: dict[str, str | int | float]
    machine: str = Field(description="hash that names the machine's profile")

    @model_validator(mode="before")
    @classmethod
    def _older_have_threads_of_all(cls, values: object) -> object:
        """Results from before there was a list have the number of threads but once."""
        if not isinstance(values, dict):
            return values
        older = [timing for timing in values.get("timings", ()) if isinstance(timing, dict)]
        if not older or "threads" not in values:
            return values
        threads = {"threads": values["threads"]}
        return {**values, "timings": [{**threads, **t} if isinstance(t, dict) else t for t in values["timings"]]}

    @property
    def served(self) -> tuple[EngineTiming, ...]:
        """Those of the form in which each variant is served on each engine: in parts, where it has any."""
        in_parts = {(found.variant, found.engine) for found in self.timings if found.form == "parts"}
        return tuple(t for t in self.timings if t.form == "parts" or (t.variant, t.engine) not in in_parts)

    def timing(self, variant: str, engine: str, rows: int) -> EngineTiming | None:
        """The timing of one combination in the form that is served, with the first number of threads, if it was part of
        the run."""
        wanted = (variant, engine, rows, self.threads)
        return next((t for t in self.served if (t.variant, t.engine, t.rows, t.threads) == wanted), None)

    def table_rows(self) -> list[dict[str, str]]:
        """One row per variant, engine, form and number of threads: the median by number of rows, with its quartiles;
        where it failed, the reason. Ready to render."""
        table: dict[tuple[str, str, Form, int], dict[str, str]] = {}
        several = len({found.threads for found in self.timings}) > 1
        failed = any(found.error for found in self.timings)
        for found in self.timings:
            key = (found.variant, found.engine, found.form, found.threads)
            line = table.setdefault(key, {"variant": found.variant, "engine": found.engine, "form": found.form})
            line |= {"threads": str(found.threads)} if several else {}
            line[f"{found.rows} rows, ms"] = _cell(found)
        if failed:
            reasons = {(t.variant, t.engine, t.form, t.threads): t.error or "" for t in self.timings}
            table = {key: {**line, "reason": reasons[key]} for key, line in table.items()}
        return list(table.values())


def _cell(found: EngineTiming) -> str:
    if found.p50_ms is None or found.p25_ms is None or found.p75_ms is None:
        return "failed"
    return f"{found.p50_ms:.3f} ({found.p25_ms:.3f}-{found.p75_ms:.3f})"
