"""What the split gives, model by model: multiply-adds and bytes of a row before and after, at full size.

$ python benchmarks/binding_table.py --data-root ../shared/data

Two sets of models, with weights as they are made: nothing here is about quality. The zoo's models over Criteo's fields
(`families.py`), the first of them "DCN-v2 (big)"; and those that `families_quality.py` trains, over their own data.
Writes benchmarks/results/binding-table.json; `render_binding.py` makes the page of it. Exit status 0 where all bars
hold, else 1.

Some minutes on one core; needs ml-1m and s3rec-beauty under --data-root.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import families
import numpy as np
import torch
from families_quality import FAMILIES, Family, open_data
from pydantic import AwareDatetime
from script import new_file, run_script

from rankine.compilation.binding.table import SplitRow, split_table
from rankine.compression.quantize import quantize_graph
from rankine.config import Frozen
from rankine.data import Dataset
from rankine.environment import environment
from rankine.models.columns import Batch
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network, network_of
from rankine.models.schema import CategoricalFeature
from rankine.models.variant import Numeric
from rankine.models.zoo import build_model

RESULT = Path(__file__).resolve().parent / "results" / "binding-table.json"
BIG, LARGEST_SHARE = "dcn_v2", 0.63
"""Over Criteo's fields: the bar of DCN-v2 (big)."""
CALIBRATION_ROWS = 1024


class TableRow(Frozen):
    """One model in one numeric form; ``fields`` are those of Criteo, or of the data set named."""

    fields: str
    numeric: Numeric
    split: SplitRow


class TableResult(Frozen):
    """All of them."""

    schema_version: Literal[1] = 1
    kind: Literal["binding-table"] = "binding-table"
    created: AwareDatetime
    rows: tuple[TableRow, ...]
    environment: dict[str, object]


def criteo_rows() -> Iterator[TableRow]:
    """The zoo over Criteo's fields, half of them the request's; DIN over a history."""
    for name, config in families.FAMILIES.items():
        schema = families.schema_of(name)
        sizes = {f.name: families.VALUES for f in schema.features if isinstance(f, CategoricalFeature)}
        sizes = {"item": families.ITEMS} | {table: size for table, size in sizes.items() if table.startswith("c")}
        torch.manual_seed(0)
        network = network_of(build_model(schema, sizes, config).eval())
        batch = families.batch_of(schema, CALIBRATION_ROWS, seed=1)
        yield from _both_forms("history" if name.startswith("din") else "Criteo", name, network, batch)


def data_rows(name: str, family: Family, dataset: Dataset) -> Iterator[TableRow]:
    """A family over its own data."""
    train = dataset.splits().train
    transforms = dataset.fit_transforms(train)
    torch.manual_seed(0)
    network = network_of(build_model(transforms.schema, transforms.table_rows(), family.model).eval())
    batch = dataset.encode(transforms).select(train[:CALIBRATION_ROWS])
    yield from _both_forms(dataset.name, name, network, batch)


def _both_forms(fields: str, name: str, network: Network, batch: Batch) -> Iterator[TableRow]:
    inputs = reference_lookup(network.schema, network.tables, batch, np.float32)
    forms: dict[Numeric, Network] = {
        "fp32": network,
        "int8": network.changed(graph=quantize_graph(network.graph, inputs)),
    }
    for numeric, form in forms.items():
        (split,) = split_table([(name, form)])
        print(f"{fields} {name} {numeric}: {split.macs_before:,} -> {split.macs_candidate:,} MACs", flush=True)
        yield TableRow(fields=fields, numeric=numeric, split=split)


def holds(row: TableRow) -> bool:
    """Never worse; and for DCN-v2 (big) the bar."""
    share = LARGEST_SHARE if (row.fields, row.split.model) == ("Criteo", BIG) else 1.0
    return row.split.share <= share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder with ml-1m, ...")
    parser.add_argument("--out", type=new_file, default=RESULT, help="[default: the committed result]")
    options = parser.parse_args()
    rows = list(criteo_rows())
    by_data = sorted(FAMILIES.items(), key=lambda found: (found[1].data, str(found[1].schema)))
    held: tuple[object, Dataset] | None = None
    for name, family in by_data:
        key = (family.data, family.schema)
        if held is None or held[0] != key:
            held = (key, open_data(family, options.data_root))
        rows += data_rows(name, family, held[1])
    result = TableResult(created=datetime.now(UTC), rows=tuple(rows), environment=environment())
    options.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0 if all(map(holds, rows)) else 1


if __name__ == "__main__":
    run_script(main)
