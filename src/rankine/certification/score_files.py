"""Scores of two models in files, which must be of the same rows in the same order before anything is compared.

A file is a table (Parquet, CSV with a header) or an ``.npz`` of arrays, one value a row: ``score``; and where known
``label`` (0 or 1), ``user`` and ``item`` (what makes rows dependent), and ``row_id`` (unique, to align by).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rankine.artifact import sha256_of
from rankine.data import arrow
from rankine.errors import DataError, UsageError, did_you_mean
from rankine.metrics import Floats

__all__ = ["SUFFIXES", "PairedScores", "ScoreFile", "ScoreKind", "pair_scores", "read_score_file"]

ScoreKind = Literal["logit", "probability", "ranking"]
"""What scores are: logits; probabilities, which are turned into logits; or any numbers that rank."""

SUFFIXES = (".parquet", ".csv", ".npz")
_NUMBERS = ("score", "label")
_CONTEXT = ("label", "user", "item", "row_id")
_ROW_ID_HINT = "Give both files a column 'row_id', unique, to align them by it; or write both in the order of the rows."
# A probability of exactly 0 or 1 would be an infinite logit: it is moved by this much.
_TINY = 1e-15


@dataclass(frozen=True, eq=False)
class ScoreFile:
    """One file: ``columns`` are those that it has of score, label, user, item and row_id, each ``(rows,)``."""

    path: Path
    sha256: str
    columns: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Two models on the same rows.

    Attributes:
        a, b: logits, or numbers that rank, float64 ``(rows,)``.
        labels: ``(rows,)``.
        clusters: ids ``(rows,)`` by dimension, ``user`` and ``item``, where known.
        hashes: SHA-256 of the files, by what each is for.
        row_ids: ``(rows,)``, distinct, where known.
    """

    a: Floats
    b: Floats
    labels: np.ndarray
    clusters: Mapping[str, np.ndarray]
    hashes: Mapping[str, str]
    row_ids: np.ndarray | None = None

    @property
    def rows_digest(self) -> str:
        """Hash of which rows these are, as far as labels and ids tell; the same in whichever order they come.

        Without any id that order is all that tells one set of rows from another with as many positives.
        """
        columns = [self.labels.astype("<f8"), *self.clusters.values()]
        if self.clusters:
            order = np.lexsort(columns)
        else:
            order = np.arange(len(self.labels)) if self.row_ids is None else np.argsort(self.row_ids)
        digest = hashlib.sha256()
        for name, values in zip(("label", *self.clusters), columns, strict=True):
            ordered = values[order]
            # Text by its characters, not by the width of the longest.
            content = b"\0".join(ordered.tolist()) if ordered.dtype.kind == "S" else ordered.tobytes()
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.hexdigest()

    @property
    def repeated_share(self) -> float:
        """Share of the rows that have the label and both scores of another row."""
        columns = (self.labels, self.a, self.b)
        order = np.lexsort(columns)
        same = np.logical_and.reduce([values[order][1:] == values[order][:-1] for values in columns])
        return float((np.append(same, False) | np.append(False, same)).mean())


def read_score_file(path: Path, *, needs: str = "score") -> ScoreFile:
    """Read what a file has of the known columns.

    Args:
        needs: the column that it must have.

    Raises:
        DataError: it is missing or malformed, lacks the column, has no rows, or a score is NaN or infinite.
    """
    if path.suffix not in SUFFIXES:
        raise DataError("is no file of scores", where=str(path), got=path.suffix or "a folder", allowed=_allowed())
    columns = _read_npz(path, needs) if path.suffix == ".npz" else _read_table(path, needs)
    file = ScoreFile(path, sha256_of(path), columns)
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(values)}" for name, values in columns.items())
        raise DataError("columns differ in length", where=str(path), got=lengths)
    if not file.rows:
        raise DataError("has no rows", where=str(path))
    for name in columns.keys() & set(_NUMBERS):
        _refuse_infinite(columns[name], f"{path}: {name}")
    return file


def pair_scores(
    a: ScoreFile, b: ScoreFile, labels: ScoreFile | None = None, kind: ScoreKind | None = None
) -> PairedScores:
    """The scores of two files on the same rows, in the order of ``a``.

    Rows are aligned by ``row_id`` where both files have it, else by position. What two files both say of a row (label,
    user, item) must agree.

    Args:
        labels: a third file with the labels, aligned with ``a`` likewise; None where ``a`` or ``b`` has them.
        kind: what the scores are; None for logits, unless they look like probabilities.

    Raises:
        DataError: the files are of other rows, or there are no labels, or scores are no probabilities.
        UsageError: scores look like probabilities and ``kind`` does not say what they are.
    """
    files = {"baseline_scores": a, "variant_scores": b, "labels": labels}
    others = [file for file in (b, labels) if file is not None]
    taken = [_aligned(a, other) for other in others]
    columns = {name: a.columns[name] for name in _CONTEXT if name in a.columns}
    for other, found in zip(others, taken, strict=True):
        for name in _CONTEXT:
            if name in found:
                known = columns.setdefault(name, found[name])
                _refuse_disagreement(name, known, found[name], f"{a.path}, {other.path}")
    if "label" not in columns:
        hint = "Add a column 'label' (0 or 1) to the first file, or give --labels FILE."
        raise DataError("there are no labels", where=f"{a.path}, {b.path}", got=", ".join(a.columns), hint=hint)
    return PairedScores(
        a=_as_logits(a.columns["score"], kind, str(a.path)),
        b=_as_logits(taken[0]["score"], kind, str(b.path)),
        labels=columns["label"],
        clusters={name: columns[name] for name in ("user", "item") if name in columns},
        hashes={role: file.sha256 for role, file in files.items() if file is not None},
        row_ids=columns.get("row_id"),
    )


def _aligned(a: ScoreFile, other: ScoreFile) -> Mapping[str, np.ndarray]:
    """The columns of ``other`` in the order of ``a``."""
    where = f"{a.path}, {other.path}"
    if a.rows != other.rows:
        raise DataError("the files have different numbers of rows", where=where, got=f"{a.rows} and {other.rows}",
                        hint="Score the same held-out rows with both models.")  # fmt: skip
    if not ("row_id" in a.columns and "row_id" in other.columns):
        return other.columns
    here, there = _distinct(a), _distinct(other)
    if here.dtype.kind != there.dtype.kind:
        kinds = " and ".join("integers" if ids.dtype.kind == "i" else "text" for ids in (here, there))
        raise DataError("row_id is not of one kind", where=where, got=kinds)
    order = np.argsort(there)
    at = order[np.minimum(np.searchsorted(there[order], here), len(there) - 1)]
    absent = there[at] != here
    if absent.any():
        row = int(absent.argmax())
        got = f"row_id {_shown(here[row])} is in the first only, {int(absent.sum())} such"
        raise DataError("the files are of different rows", where=where, got=got, hint="Score the same held-out rows.")
    return {name: values[at] for name, values in other.columns.items()}


def _distinct(file: ScoreFile) -> np.ndarray:
    ids = file.columns["row_id"]
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        twice = _shown(values[counts > 1][0])
        raise DataError("row_id is given twice", where=str(file.path), got=twice, hint="One row_id a row.")
    return ids


def _refuse_disagreement(column: str, mine: np.ndarray, other: np.ndarray, where: str) -> None:
    # Of other kinds, numbers and text, nothing is equal: NumPy says so with one False.
    differs = np.broadcast_to(np.asarray(mine != other), len(mine))
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"the files do not agree on the {column}s: their rows are not the same, or not in the same order",
            where=f"{where}: {column}, row {row + 1}",
            got=f"{_shown(mine[row])} and {_shown(other[row])}, {int(differs.sum())} such of {len(mine)} rows",
            hint=_ROW_ID_HINT,
        )


def _as_logits(scores: np.ndarray, kind: ScoreKind | None, where: str) -> Floats:
    inside = bool(scores.min() >= 0 and scores.max() <= 1)
    if kind == "probability":
        if not inside:
            got = f"{scores.min():g} to {scores.max():g}"
            hint = "Both files must hold the same: use --scores logit, or ranking for numbers on another scale."
            raise DataError("scores are no probabilities", where=where, got=got, allowed="0 to 1", hint=hint)
        clipped = np.clip(scores, _TINY, 1 - _TINY)
        return np.asarray(np.log(clipped) - np.log1p(-clipped))
    if kind is None and inside:
        raise UsageError(
            "scores look like probabilities, where logits are expected",
            where=where,
            got=f"all of them lie in {scores.min():g} to {scores.max():g}",
            hint="Use --scores probability; or --scores logit, or ranking, if that is what they are.",
        )
    return scores


def _read_table(path: Path, needs: str) -> dict[str, np.ndarray]:
    present = arrow.column_names(path)
    _refuse_missing(path, needs, present)
    raw = arrow.read_columns(path, [name for name in (*_CONTEXT, "score") if name in present])
    columns = {}
    for name, column in raw.items():
        where = f"{path}: {name}"
        columns[name] = arrow.numbers(column, where) if name in _NUMBERS else _ids(column, where)
    return columns


def _ids(column: object, where: str) -> np.ndarray:
    """Ids as int64, or UTF-8 bytes; those of a CSV, where all is text, are integers where all spell integers."""
    values = arrow.factorize(column, where)
    if values.dtype.kind != "S" or not all(value.isdigit() and len(value) < 19 for value in np.unique(values)):
        return values
    integers = values.astype(np.int64)
    return integers if np.array_equal(integers.astype("S"), values) else values  # not where they begin with zeros


def _read_npz(path: Path, needs: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError("no such file", where=str(path), allowed=_allowed())
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
            _refuse_missing(path, needs, present)
            for name in (name for name in (*_CONTEXT, "score") if name in present):
                with archive.open(f"{name}.npy") as file:
                    found[name] = np.lib.format.read_array(file, allow_pickle=False)
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        got = " ".join(str(error).split())
        raise DataError(
            "is not readable as .npz", where=str(path), got=got, hint="Write it with numpy.savez."
        ) from None
    return {name: _column(values, f"{path}: {name}", number=name in _NUMBERS) for name, values in found.items()}


def _column(values: np.ndarray, where: str, *, number: bool) -> np.ndarray:
    """An array of an ``.npz`` as the column of a table would be."""
    if values.ndim != 1:
        raise DataError("must have one value a row", where=where, got=f"shape {values.shape}", allowed="(rows,)")
    if values.dtype.kind not in ("biuf" if number else "iuSU"):
        allowed = "numbers" if number else "integers or text"
        raise DataError(f"must be {allowed}", where=where, got=str(values.dtype), allowed=allowed)
    if number:
        return values.astype(np.float64)
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    # Of one type whatever their width: an id above that of int64 becomes a negative one, still its own.
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


def _refuse_missing(path: Path, needs: str, present: list[str]) -> None:
    if needs not in present:
        got = ", ".join(present) or "no columns"
        raise DataError(f"has no column '{needs}'", where=str(path), got=got, hint=did_you_mean(needs, present))


def _refuse_infinite(values: np.ndarray, where: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        row = int(finite.argmin())
        raise DataError(
            "must be finite",
            where=f"{where}, row {row + 1}",
            got=f"{values[row]}, {int((~finite).sum())} such of {len(values)} rows",
            hint="Scores with NaN or infinity cannot be ranked: look for overflow, or for empty features.",
        )


def _allowed() -> str:
    return f"a file of scores ({', '.join(SUFFIXES)})"


def _shown(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
