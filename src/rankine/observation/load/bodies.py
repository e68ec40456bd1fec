"""Request bodies: from the server's own examples or from a file, cut to size and serialized before the clock starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rankine.errors import DataError, UsageError
from rankine.observation.load.answer import Body
from rankine.observation.load.candidates import parse_candidates, stratified
from rankine.observation.load.config import LoadConfig

__all__ = ["POOL", "bodies_from_examples", "bodies_from_file"]

POOL = 240  # bodies of a run: a multiple of twenty, so that MLPerf's twenty draws come out exactly


def bodies_from_examples(examples: Sequence[Mapping[str, Any]], config: LoadConfig) -> list[Body]:
    """``POOL`` bodies whose numbers of candidates follow ``config.candidates``, cut from the server's examples.

    Raises:
        UsageError: there are no examples, or the server gives fewer candidates than the distribution asks for.
    """
    candidates = parse_candidates(config.candidates)
    if not examples:
        raise UsageError("the server gave no examples", where=config.url, hint="Pass `requests_file` instead.")
    available = min(len(example["candidates"]["ids"]) for example in examples)
    if available < candidates.largest:
        raise UsageError(
            "the server takes fewer candidates a request than this",
            where="candidates",
            got=f"{config.candidates} (up to {candidates.largest})",
            allowed=f"up to {available}",
        )
    counts = stratified(candidates, POOL, seed=config.seed)
    return [_body(_cut(examples[i % len(examples)], int(n), config.top_k), config) for i, n in enumerate(counts)]


def bodies_from_file(path: Path, config: LoadConfig) -> list[Body]:
    """One body a line of a JSON lines file, sent as it is (only ``timings`` is added, where asked for).

    Raises:
        DataError: the file is missing or empty, or a line is not a rank body.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = msgspec.json.decode(line, type=dict[str, Any])
            found.append(_body(values, config))
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise DataError(
                "not a rank body",
                where=f"{path}:{number}",
                got=f"{type(error).__name__}: {error}",
                allowed='{"request": {...}, "candidates": {"ids": [...]}, ...}',
            ) from None
    if not found:
        raise DataError("has no requests", where=str(path), allowed="one rank body a line")
    return found


def _cut(example: Mapping[str, Any], rows: int, top_k: int | None) -> dict[str, Any]:
    """``example`` with its first ``rows`` candidates: ids, prior and every candidate feature are one entry a row."""
    given = example["candidates"]
    candidates = {key: value[:rows] if isinstance(value, list) else value for key, value in given.items()}
    if given.get("features"):
        candidates["features"] = {name: column[:rows] for name, column in given["features"].items()}
    cut = {**example, "candidates": candidates}
    cut.pop("top_k", None)
    return cut if top_k is None else {**cut, "top_k": top_k}


def _body(values: Mapping[str, Any], config: LoadConfig) -> Body:
    rows = len(values["candidates"]["ids"])
    top_k = values.get("top_k")
    if config.timings:
        values = {**values, "timings": True}
    return Body(msgspec.json.encode(values), rows, rows if top_k is None else min(int(top_k), rows))
