"""A small catalog whose every generation is known beforehand: what the tests of the store hold it against."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rankine.catalog import CatalogWriter, DerivedKey, Deriver, Preparer, View, build_catalog
from rankine.catalog.derive import Storage
from rankine.models.columns import Column, Columns, Ragged
from rankine.models.schema import CategoricalFeature, DenseFeature, MultiHotFeature, Schema
from rankine.models.transforms import Transforms

FIRST_ITEMS = 40
POSSIBLE_IDS = 90
TAGS = [f"tag-{number}" for number in range(9)]

Values = Mapping[str, Any]
"""Raw features of one item."""
State = Mapping[Any, Values]
"""Items by id."""


def schema(item_id_dtype: str = "int64") -> Schema:
    """Every form of column that a catalog keeps."""
    return Schema.model_validate(
        {
            "item_id": "sku",
            "item_id_dtype": item_id_dtype,
            "features": (
                CategoricalFeature(name="user", side="request"),
                CategoricalFeature(name="brand", side="item"),
                MultiHotFeature(name="tags", side="item", dtype="string"),
                DenseFeature(name="size", side="item", width=3),
            ),
        }
    )


@cache
def values_of(number: int, generation: int) -> Values:
    """What item ``number`` is when it is written in ``generation``."""
    random = np.random.default_rng((number, generation))
    return {
        "brand": int(random.integers(1, 6)),
        "tags": [TAGS[at] for at in random.choice(len(TAGS), random.integers(0, 4), replace=False)],
        "size": random.normal(size=3).astype(np.float32).tolist(),
    }


def external(numbers: list[int], dtype: str) -> np.ndarray:
    """Ids of items: the numbers themselves, or texts of various lengths."""
    if dtype == "int64":
        return np.array(numbers, np.int64)
    return np.array([f"{'x' * (number % 5)}{number}".encode() for number in numbers])


def columns_of(items: list[Values]) -> dict[str, Column]:
    """Raw columns of items, one row each."""
    return {
        "brand": np.array([item["brand"] for item in items], np.int64),
        "tags": Ragged.from_lists([[tag.encode() for tag in item["tags"]] for item in items], np.dtype("S8")),
        "size": np.array([item["size"] for item in items], np.float32).reshape(-1, 3),
    }


@dataclass(frozen=True)
class Operation:
    """What one generation does: upsert or delete items, or derive all columns anew (no numbers)."""

    numbers: list[int]
    upsert: bool


def operation(generation: int) -> Operation:
    """The operation of each generation after the first: the same whenever it is asked for."""
    random = np.random.default_rng(generation)
    kind = generation % 7
    if kind == 5:
        return Operation([], upsert=False)
    numbers = random.choice(POSSIBLE_IDS, random.integers(1, 9), replace=False).tolist()
    return Operation(numbers, upsert=kind != 3)


def state_at(generation: int, dtype: str = "int64") -> State:
    """All items of a generation."""
    items: dict[Any, Values] = {}
    for number in range(1, generation + 1):
        of = Operation(list(range(FIRST_ITEMS)), upsert=True) if number == 1 else operation(number)
        for item, key in zip(of.numbers, external(of.numbers, dtype).tolist(), strict=True):
            if of.upsert:
                items[key] = values_of(item, number)
            else:
                items.pop(key, None)
    return items


def embed(items: Columns) -> dict[str, np.ndarray]:
    """A catalog graph's stand-in: each item for itself, of all its encoded features."""
    brand, tags, size = items["brand"], items["tags"], items["size"]
    if not isinstance(brand, np.ndarray) or not isinstance(tags, Ragged) or not isinstance(size, np.ndarray):
        raise TypeError("not the encoded columns of this schema")
    bags = np.zeros((len(brand), 4), np.float32)
    np.add.at(
        bags, np.repeat(np.arange(len(brand)), np.diff(tags.offsets)), np.sin(np.outer(tags.values, [1, 2, 3, 4]))
    )
    return {"bags": bags, "both": np.cos(brand)[:, None].astype(np.float32) * size}


def deriver(storage: Storage, variant: str = "small") -> Deriver:
    return Deriver(
        DerivedKey(variant=variant, graph="0123456789abcdef", storage=storage), {"bags": 4, "both": 3}, embed
    )


def preparer(dtype: str = "int64", *derivers: Deriver) -> Preparer:
    """What makes changes; it derives for every storage type unless told otherwise."""
    items = list(state_at(1).values())
    fitted = Transforms.fit(schema(dtype), {"user": np.arange(1, len(items) + 1), **columns_of(items)})
    return Preparer(fitted, derivers or tuple(deriver(storage) for storage in ("float32", "float16", "int8")))


def write_first(path: Path, dtype: str = "int64", *derivers: Deriver) -> Preparer:
    """The first generation; the usual one is written once, since every file of it waits for the disk, and copied."""
    made = preparer(dtype, *derivers)
    if derivers:
        _build_first(path, made, dtype)
    else:
        shutil.copytree(Path(_first(dtype).name) / "catalog", path, symlinks=True)
    return made


@cache
def _first(dtype: str) -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="rankine-catalog-")
    _build_first(Path(folder.name) / "catalog", preparer(dtype), dtype)
    return folder


def _build_first(path: Path, made: Preparer, dtype: str) -> None:
    numbers = np.random.default_rng(1).permutation(FIRST_ITEMS).tolist()
    build_catalog(path, made, external(numbers, dtype), columns_of([values_of(number, 1) for number in numbers]))


def advance(writer: CatalogWriter, made: Preparer, dtype: str = "int64") -> int:
    """Do the operation of the next generation; its number as the writer gives it."""
    generation = writer.generation + 1
    of = operation(generation)
    if not of.numbers:
        return writer.build(made)
    ids = external(of.numbers, dtype)
    if not of.upsert:
        return writer.delete(ids)
    return writer.upsert(made.prepare(ids, columns_of([values_of(number, generation) for number in of.numbers])))


def check_view(view: View, made: Preparer, dtype: str = "int64") -> None:
    """Hold a view against what its generation must be: every id, every raw value, every derived value."""
    expected = state_at(view.generation, dtype)
    keys = sorted(expected)
    assert len(view) == len(keys)
    assert view.item_ids.tolist() == keys
    everything = external(list(range(POSSIBLE_IDS)), dtype)
    rows = view.rows_of(everything)
    known = [key in expected for key in everything.tolist()]
    assert ((rows >= 0) == np.array(known)).all()
    asked = everything[rows >= 0][::-1]  # in another order than any that is stored
    rows = view.rows_of(asked)
    raw = columns_of([expected[key] for key in asked.tolist()])
    found = view.take(rows)
    assert list(found) == list(raw)
    for name, column in raw.items():
        check_equal(found[name], column)
    encoded = made.transforms.encode(made.transforms.schema.catalog_features, raw, unseen="row")
    wanted = embed(encoded)
    assert set(view.derived) == {of.key for of in made.derivers}
    for key in view.derived:
        for name, table in view.take_derived(key, rows).items():
            allowed = {"float32": 0.0, "float16": 5e-3, "int8": 0.05}[key.storage]
            assert np.abs(table.dequantized() - wanted[name]).max(initial=0) <= allowed


def check_equal(found: Column, wanted: Column) -> None:
    if isinstance(wanted, Ragged):
        assert isinstance(found, Ragged)
        assert found.offsets.tolist() == wanted.offsets.tolist()
        assert found.values.tolist() == wanted.values.tolist()
    else:
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, wanted)
