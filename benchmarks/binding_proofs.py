"""Split every model that is there and hold the parts to the whole: FP32 errors, INT8 accumulators and codes, AUC.

$ python benchmarks/binding_proofs.py --work /tmp/families --compressed /tmp/compression --foreign /tmp/foreign \\
      --data-root ../shared/data

The reference models are those that families_quality.py and compression.py left in their work folders, every variant of
them, on validation rows; the foreign ones those of foreign_models.py, on rows that they were not trained on (a model
that is not in the folder is trained there first; needs deepctr-torch). INT8 of a foreign model is made here. Each is
split twice: at the prices that the compiler has by default, and at none, where everything is taken out that can be.

A quarter of an hour on one core, most of it for the foreign models. The result is written when all is done. Exit
status 0 where all bars hold, 1 where one does not or where `load` refuses a foreign model that
results/foreign-models.json has as accepted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from families_quality import FAMILIES, arguments_for, open_data
from pydantic import AwareDatetime
from script import existing_folder, new_file, run_script

from rankine.artifact import Artifact
from rankine.compilation.binding import CostModel, Settings, sides_of, split_graph
from rankine.compilation.binding.proof import Proof, prove
from rankine.compilation.binding.run import run_split
from rankine.compilation.binding.split import SplitModel
from rankine.compression.quantize import quantize_graph
from rankine.config import Frozen, load_yaml
from rankine.data import Dataset, load_dataset
from rankine.environment import environment
from rankine.errors import UsageError
from rankine.metrics import auc
from rankine.models.lookup_reference import reference_lookup
from rankine.models.network import Network, load_network
from rankine.models.onnx_session import open_session
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, variant_names

RESULTS = Path(__file__).resolve().parent / "results"
RESULT, ACCEPTED = RESULTS / "binding-proofs.json", RESULTS / "foreign-models.json"
PROVED_ROWS, JUDGED_ROWS = 8192, 20_000
CALIBRATION_ROWS = 2000
RATINGS = 100_000
"""That foreign_models.py prepares, too, where it is not told otherwise."""
TIMES, STEPS, AUC_DIFFERENCE = 2.0, 1, 1e-5
"""The bars: error in FP32 against that of the whole, codes, AUC."""
ACCUMULATOR = 1e-3
"""Of one step: less means the same integer."""
_FREE = CostModel(catalog_byte=0, request_byte=0, element=0, slow_element=0)
PRICES: Mapping[Literal["default", "none"], Settings] = {"default": Settings(), "none": Settings(costs=_FREE)}


class Proved(Frozen):
    """One graph, split at some prices.

    Attributes:
        macs_before, macs_after: a row, of the whole and of the candidate's part.
        auc_difference: the largest of all tasks, of the parts and the whole in FP32.
    """

    origin: Literal["zoo", "foreign"]
    model: str
    variant: str
    numeric: Literal["fp32", "int8"]
    prices: Literal["default", "none"]
    macs_before: int
    macs_after: int
    proof: Proof
    auc_difference: float

    @property
    def holds(self) -> bool:
        """Whether every bar of its numeric form does."""
        found = self.proof
        exact = found.accumulator_difference < ACCUMULATOR and found.steps <= STEPS
        near = self.numeric == "int8" or found.error_after <= TIMES * found.error_before
        return exact and near and self.auc_difference < AUC_DIFFERENCE and self.macs_after <= self.macs_before


class Unproved(Frozen):
    """A model that was to be proved and was not there.

    Attributes:
        expected: whether it is so in results/foreign-models.json as well; of the zoo always: its folder was not made.
    """

    origin: Literal["zoo", "foreign"]
    model: str
    reason: str
    expected: bool = True


class ProofsResult(Frozen):
    """All of them."""

    schema_version: Literal[1] = 1
    kind: Literal["binding-proofs"] = "binding-proofs"
    created: AwareDatetime
    proofs: tuple[Proved, ...]
    unproved: tuple[Unproved, ...]
    environment: Mapping[str, Any]


class Rows(Frozen):
    """What a model is proved on: features as the lookup gives them, and labels ``(rows, tasks)``."""

    model_config = Frozen.model_config | {"arbitrary_types_allowed": True}

    features: Mapping[str, np.ndarray]
    labels: np.ndarray

    def first(self, count: int) -> dict[str, np.ndarray]:
        return {name: values[:count] for name, values in self.features.items()}


def proofs_of(
    origin: Literal["zoo", "foreign"], model: str, variant: str, network: Network, rows: Rows
) -> list[Proved]:
    """Both ways of splitting one network."""
    sides = sides_of(network.schema)
    sides = {value.name: sides[value.name] for value in network.graph.graph.input}
    whole = open_session(network.graph).run(None, dict(rows.features))[0]
    found = []
    for prices, settings in PRICES.items():
        split = split_graph(network.graph, sides, settings)
        found.append(
            Proved(
                origin=origin,
                model=model,
                variant=variant,
                numeric=network.numeric,
                prices=prices,
                macs_before=split.plan.work.before,
                macs_after=split.plan.work.candidate,
                proof=prove(network.graph, split, rows.first(PROVED_ROWS), sides),
                auc_difference=_auc_difference(rows.labels, whole, _scored(split, rows.features)),
            )
        )
        print(_told(found[-1]), flush=True)
    return found


def _scored(split: SplitModel, features: Mapping[str, np.ndarray]) -> np.ndarray:
    at = np.arange(len(next(iter(features.values()))))
    return run_split(split, item=features, request=features, row=features, item_index=at, request_index=at)


def _auc_difference(labels: np.ndarray, whole: np.ndarray, parts: np.ndarray) -> float:
    tasks = range(labels.shape[1])
    return max(abs(auc(labels[:, task], parts[:, task]) - auc(labels[:, task], whole[:, task])) for task in tasks)


def rows_of(network: Network, artifact: Artifact, dataset: Dataset, positions: np.ndarray) -> Rows:
    """Rows of a data set, looked up in the network's tables."""
    batch = dataset.encode(Transforms.read(artifact)).select(positions)
    features = reference_lookup(network.schema, network.tables, batch, np.float32)
    return Rows(features=features, labels=dataset.labels[positions])


def zoo_proofs(options: argparse.Namespace) -> Iterator[Proved | Unproved]:
    """Of the variants of every family, and of the compressed ones."""
    folders = [(options.work, "certified"), (options.compressed, "compressed")]
    for name in options.only:
        there = [root / name / stage for root, stage in folders if root is not None and (root / name / stage).exists()]
        if not there:
            yield Unproved(origin="zoo", model=name, reason="not in the work folders")
            continue
        dataset = open_data(FAMILIES[name], options.data_root)
        positions = dataset.splits().validation[:JUDGED_ROWS]
        done: set[str] = set()
        for artifact in map(Artifact.open, there):
            for variant in variant_names(artifact):
                if variant not in done:
                    done.add(variant)
                    network = load_network(artifact, variant)
                    rows = rows_of(network, artifact, dataset, positions)
                    yield from proofs_of("zoo", name, variant, network, rows)


def foreign_proofs(folder: Path, data: Path) -> Iterator[Proved | Unproved]:
    """Of the models of deepctr-torch that `load` accepts, as they are and in INT8."""
    import torch
    from foreign_models import bring_in
    from foreign_movielens import prepare, write_rows
    from foreign_zoo import ZOO

    torch.set_num_threads(1)  # the models are small: threads would wait for each other
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(data, RATINGS)
    write_rows(prepared, folder / "rows.parquet", prepared.held_out)
    known = json.loads(ACCEPTED.read_text(encoding="utf-8"))["models"]
    accepted = {model["name"] for model in known if not model["refused"]}
    for name, foreign in ZOO.items():
        out = folder / f"{name.lower()}_model"
        if not out.exists() and (refused := bring_in(foreign, prepared, out)) is not None:
            yield Unproved(origin="foreign", model=name, reason=refused, expected=name not in accepted)
            continue
        yield from _foreign_proofs(name, Artifact.open(out), load_yaml(Schema, out.with_suffix(".yaml")))


def _foreign_proofs(name: str, artifact: Artifact, schema: Schema) -> Iterator[Proved]:
    """Of one model, on the rows that lie beside it."""
    dataset = load_dataset(artifact.path.parent / "rows.parquet", schema=schema)
    network = load_network(artifact, BASELINE)
    held_out = np.arange(dataset.rows)
    calibration = rows_of(network, artifact, dataset, held_out[:CALIBRATION_ROWS]).features
    rows = rows_of(network, artifact, dataset, held_out[CALIBRATION_ROWS:][:JUDGED_ROWS])
    yield from proofs_of("foreign", name, BASELINE, network, rows)
    try:
        rounded = Network(network.schema, quantize_graph(network.graph, calibration), network.tables, "int8", None)
    except UsageError as error:  # it has no layer for INT8
        print(f"{name} in INT8: {error}", flush=True)
        return
    yield from proofs_of("foreign", name, "int8", rounded, rows)


def _told(found: Proved) -> str:
    proof = found.proof
    return (
        f"{'holds' if found.holds else 'FAILS'} {found.model} {found.variant} at {found.prices} prices: "
        f"{found.macs_before:,} -> {found.macs_after:,} MACs, "
        f"error {proof.error_before:.2e} -> {proof.error_after:.2e}, "
        f"accumulators {proof.accumulator_difference:.1e} of {proof.sums}, "
        f"codes {proof.stepped} of {proof.codes} by {proof.steps}, AUC {found.auc_difference:.1e}"
    )


def main() -> int:
    parser = arguments_for(__doc__, FAMILIES, made_by="families_quality.py")
    parser.add_argument("--compressed", type=existing_folder, help="folder that compression.py worked in")
    parser.add_argument(
        "--foreign", type=Path, help="folder that foreign_models.py worked in by --work, or one that is new"
    )
    parser.add_argument("--out", type=new_file, default=RESULT, help="[default: the committed result]")
    options = parser.parse_args()
    foreign = foreign_proofs(options.foreign, options.data_root / "ml-1m") if options.foreign else ()
    proofs: list[Proved] = []
    unproved: list[Unproved] = []
    for found in chain(zoo_proofs(options), foreign):
        if isinstance(found, Proved):
            proofs.append(found)
        else:
            unproved.append(found)
            print(f"{found.model}: not proved: {found.reason}", flush=True)
    if not proofs:
        raise UsageError("none of the models is there", where=str(options.work), hint="Run families_quality.py first.")
    result = ProofsResult(
        created=datetime.now(UTC), proofs=tuple(proofs), unproved=tuple(unproved), environment=environment()
    )
    options.out.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    fine = [found.holds for found in proofs] + [found.expected for found in unproved]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    run_script(main)
