"""A data set that is never loaded whole: read in chunks, encoded into files, trained on through the page cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from rankine.data.dataset import Dataset, draw_rows
from rankine.data.encoded import StoredBatch, move_into_place, open_rows, write_rows
from rankine.data.remembered import ChunkEncoder
from rankine.data.streamed_fit import StreamedFit, needs_fit
from rankine.errors import DataError
from rankine.models.columns import Batch, Column, Columns, row_count, take
from rankine.models.schema import Feature, Schema
from rankine.models.transforms import Transforms

__all__ = ["DEFAULT_CHUNK_ROWS", "Source", "StreamedDataset"]

DEFAULT_CHUNK_ROWS = 65_536
_FORM = 1  # of the files, so that a cache that an older version wrote is not read


class Source(Protocol):
    """Files that hold flat rows, one an interaction, in an order that never changes."""

    def chunks(self, features: Sequence[Feature]) -> Iterator[dict[str, Column]]:
        """Raw columns of these features of all rows, chunk by chunk; ``features`` is not empty."""


class _Kept:
    """Encoded rows that were made already, and the temporary folder they lie in, which goes when this does."""

    def __init__(self) -> None:
        self.batches: dict[str, Batch] = {}
        self._scratch: Path | None = None

    def folder(self) -> Path:
        """Where encoded rows are written: ``$RANKINE_CACHE/encoded``, which stays, else a temporary folder."""
        if chosen := os.environ.get("RANKINE_CACHE"):
            folder = Path(chosen) / "encoded"
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="rankine-encoded-"))
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch


@dataclass(frozen=True, kw_only=True)
class StreamedDataset(Dataset):
    """A data set whose features stay in their files.

    What is one number a row (labels, times, indices: about 30 bytes) and what is one an item is in memory. Raw request
    and row columns are not: ``requests`` and ``pairs`` are empty. Every row is a request of its own.

    Attributes:
        source: reads the rows.
        source_rows: how many rows the source has.
        kept: ``(rows,)`` the source's rows that the data set has, ascending; None for all.
        encoded: what was encoded already; shared by data sets made of this one.
    """

    source: Source
    source_rows: int
    kept: np.ndarray | None = None
    encoded: _Kept

    @classmethod
    def of_source(
        cls,
        source: Source,
        *,
        name: str,
        schema: Schema,
        labels: np.ndarray,
        item_ids: np.ndarray,
        item_index: np.ndarray | None = None,
        items: Columns | None = None,
        groups: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
        provenance: Mapping[str, str],
    ) -> StreamedDataset:
        """A checked data set of all rows of ``source``; arguments as :class:`Dataset`'s; one item where none is given.

        Raises:
            DataError: there are no rows, or something does not fit them.
        """
        if not len(labels):
            raise DataError("has no rows", where=name)
        dataset = cls(
            name=name,
            schema=schema,
            requests={},
            items={} if items is None else items,
            item_ids=item_ids,
            pairs={},
            request_index=_request_index(schema, len(labels)),
            item_index=np.zeros(len(labels), np.int32) if item_index is None else item_index,
            labels=labels,
            groups=groups,
            timestamps=timestamps,
            provenance=provenance,
            source=source,
            source_rows=len(labels),
            encoded=_Kept(),
        )
        dataset.check()
        return dataset

    def subset(self, rows: int | None, seed: int) -> StreamedDataset:
        """At most ``rows`` interactions, chosen as :func:`draw_rows` says; items stay as they are."""
        if rows is None or rows >= self.rows:
            return self
        chosen = draw_rows(self.rows, rows, seed)
        return replace(
            self,
            request_index=_request_index(self.schema, rows),
            item_index=self.item_index[chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            timestamps=None if self.timestamps is None else self.timestamps[chosen],
            kept=chosen if self.kept is None else self.kept[chosen],
            provenance={**self.provenance, "subset": f"{rows} of {self.rows} rows, seed {seed}"},
        )

    def fit_transforms(self, rows: np.ndarray) -> Transforms:
        """Vocabularies and normalizations from these (training) rows, in one pass over the files.

        Raises:
            DataError: the files changed since they were opened, or a value does not fit its feature.
        """
        fit = StreamedFit(self.schema)
        chosen = np.zeros(self.rows, bool)
        chosen[rows] = True
        learned = tuple(feature for feature in self._streamed() if needs_fit(feature))
        for start, columns in self._chunks(learned):
            of_chunk = chosen[start : start + row_count(columns)]
            fit.add(learned, columns if of_chunk.all() else take(columns, np.flatnonzero(of_chunk)))
        of_items = tuple(feature for feature in self.schema.catalog_features if needs_fit(feature))
        for start in range(0, len(rows) if of_items else 0, DEFAULT_CHUNK_ROWS):
            index = self.item_index[rows[start : start + DEFAULT_CHUNK_ROWS]]
            fit.add(of_items, take({feature.name: self.items[feature.name] for feature in of_items}, index))
        return fit.transforms()

    def encode(self, transforms: Transforms) -> Batch:
        """All rows as one encoded batch that lies in files: written in one pass unless they are there already.

        They are kept in ``$RANKINE_CACHE`` by the content of the data and of the transforms, and used again by later
        processes; without it they are temporary.
        """
        key = self._key(transforms)
        if key not in self.encoded.batches:
            folder = self.encoded.folder() / key
            if not folder.is_dir():
                self._write(transforms, folder)
            request, row = open_rows(folder, transforms.schema)
            items = transforms.encode(transforms.schema.catalog_features, self.items, unseen="row")
            pair: Columns = row if len(row) else {}
            self.encoded.batches[key] = StoredBatch(request, items, pair, self.request_index, self.item_index)
        return self.encoded.batches[key]

    def _write(self, transforms: Transforms, folder: Path) -> None:
        made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            write_rows(made, transforms.schema, self._encoded_chunks(transforms))
            move_into_place(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)  # it is not there any more, or it is of no use

    def _encoded_chunks(self, transforms: Transforms) -> Iterator[Columns]:
        features = self._streamed()
        encoder = ChunkEncoder(transforms, features)
        for _, columns in self._chunks(features):
            yield encoder.encode(columns)

    def _key(self, transforms: Transforms) -> str:
        decisive = [_FORM, dict(self.provenance), transforms.fingerprint()]
        return f"{self.name}-{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:24]}"

    def _streamed(self) -> tuple[Feature, ...]:
        """Features that are not in memory."""
        return (*self.schema.request_features, *self.schema.row_features)

    def _chunks(self, features: tuple[Feature, ...]) -> Iterator[tuple[int, Columns]]:
        """Number of the first row, and raw columns, of every chunk of the rows that were kept."""
        if not features:
            return
        read, given = 0, 0
        for columns in self.source.chunks(features):
            rows = row_count(columns)
            if self.kept is None:
                yield read, columns
            else:
                first, last = np.searchsorted(self.kept, (read, read + rows))
                if last > first:
                    yield given, take(columns, self.kept[first:last] - read)
                given += int(last - first)
            read += rows
        if read != self.source_rows:
            hint = "Do not write to the files while they are read."
            raise DataError(
                "changed while it was read",
                where=self.name,
                got=f"{read} rows",
                allowed=str(self.source_rows),
                hint=hint,
            )


def _request_index(schema: Schema, rows: int) -> np.ndarray:
    """Every row its own request; where the model reads nothing of a request, all of them one."""
    return np.arange(rows, dtype=np.int32) if schema.request_features else np.zeros(rows, np.int32)
