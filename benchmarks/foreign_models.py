"""Models of ``deepctr-torch``, trained for a little on MovieLens-1M, brought in, served, held against themselves.

$ python benchmarks/foreign_models.py --data ../shared/data/ml-1m --out benchmarks/results/foreign-models.json

Every model goes the way that a user's goes: ``rankine load module:function``, compile, certify, ``rankine serve``, rank
requests over HTTP. What is refused is kept with the reason. Needs deepctr-torch and OpenVINO; a quarter of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import yaml
from foreign_compare import ITEM_SIDE, compare, own_scores
from foreign_movielens import LABELS, Prepared, prepare, write_rows
from foreign_zoo import DENSE, FIELDS, HISTORY, HISTORY_LENGTH, ZOO, Foreign
from render_foreign_models import ForeignModel, ForeignResult, Refusal
from script import movielens_folder, new_file, run_script
from torch import nn

from rankine.artifact import Artifact
from rankine.certification.certify import certify
from rankine.compilation.compile import compile_artifact
from rankine.config import load_yaml
from rankine.data import load_dataset
from rankine.environment import environment
from rankine.errors import RankineError, UsageError
from rankine.metrics import auc
from rankine.models.schema import Schema
from rankine.models.variant import BASELINE, read_variant
from rankine.planning.optimize import verification_rows

ENGINES = ("onnxruntime", "openvino")
_BATCH = 256
_MODULE = '''"""{name} of deepctr-torch, as it was trained and kept."""

from pathlib import Path

from foreign_zoo import trained


def build():
    return trained(Path(__file__).with_suffix(".pt"))
'''


def run(data: Path, folder: Path, names: list[str], rows: int, seed: int) -> ForeignResult:
    """Train, bring in and compare the models that are named."""
    torch.set_num_threads(1)  # the models are small: threads would wait for each other
    if present := [name for name in names if (folder / f"{name.lower()}_model").exists()]:
        raise UsageError("there already", where=str(folder), got=", ".join(present), hint="Give a new --work folder.")
    prepared = prepare(data, rows, seed=seed)
    write_rows(prepared, folder / "rows.parquet", prepared.held_out)  # what no model was trained on
    results = []
    for name in names:
        begin = perf_counter()
        results.append(_one(ZOO[name], prepared, folder))
        print(f"{name}: {_told(results[-1])} ({perf_counter() - begin:.0f} s)", file=sys.stderr, flush=True)
    return ForeignResult(
        created=datetime.now(UTC),
        library=f"deepctr-torch {metadata.version('deepctr-torch')}",
        dataset="MovieLens-1M",
        train_rows=len(prepared.train),
        held_out_rows=len(prepared.held_out),
        seed=seed,
        models=tuple(results),
        environment=environment(),
    )


def _one(foreign: Foreign, prepared: Prepared, folder: Path) -> ForeignModel:
    begin = perf_counter()
    model = train(foreign, prepared)
    train_s = perf_counter() - begin
    stem = f"{foreign.name.lower()}_model"
    write_user_files(foreign, model, schema_of(foreign, model, prepared), folder / stem)

    own = own_scores(model, prepared.at(prepared.held_out))
    labels = prepared.labels[prepared.held_out]
    told = ForeignModel(
        name=foreign.name,
        inputs=_inputs(foreign),
        auc={LABELS[task]: auc(labels[:, task], own[:, task]) for task in range(foreign.tasks)},
        train_s=train_s,
    )
    return _brought_in(told, model, prepared, folder / stem)


def bring_in(foreign: Foreign, prepared: Prepared, out: Path) -> str | None:
    """Train a model and ``rankine load`` it as ``out``, with the user's files beside it; why, where it is refused."""
    model = train(foreign, prepared)
    write_user_files(foreign, model, schema_of(foreign, model, prepared), out)
    return load_module(out, out.with_suffix(".yaml"))


def write_user_files(foreign: Foreign, model: nn.Module, schema: dict[str, Any], stem: Path) -> None:
    """What a user has: the model as it was kept, a module with a function that gives it, and the schema."""
    torch.save(model, stem.with_suffix(".pt"))
    stem.with_suffix(".py").write_text(_MODULE.format(name=foreign.name), encoding="utf-8")
    stem.with_suffix(".yaml").write_text(yaml.safe_dump(schema, sort_keys=False), encoding="utf-8")


def train(foreign: Foreign, prepared: Prepared) -> nn.Module:
    """One epoch, by the library's own ``fit``."""
    model: Any = foreign.build(prepared.fields)
    model.compile("adam", ["binary_crossentropy"] * foreign.tasks if foreign.tasks > 1 else "binary_crossentropy")
    columns = prepared.at(prepared.train)
    inputs = {name: columns[name] for name in model.feature_index}
    labels = prepared.labels[prepared.train, : foreign.tasks]
    with contextlib.redirect_stdout(io.StringIO()):
        model.fit(inputs, np.ascontiguousarray(labels), batch_size=_BATCH, epochs=1, verbose=0)
    return model.eval()  # type: ignore[no-any-return]


def schema_of(foreign: Foreign, model: Any, prepared: Prepared) -> dict[str, Any]:
    """The schema that a user writes: the model's own ids, one packed matrix in the order of ``feature_index``."""
    names = [name for name in model.feature_index if name != HISTORY_LENGTH]
    length = {"feature": HISTORY, "part": "length"}
    columns = [length if name == HISTORY_LENGTH else {"feature": name} for name in model.feature_index]
    return {
        "features": [_feature(name, prepared) for name in names],
        "item_id": "movie_id",
        "group": "user_id",
        "tasks": [{"name": name, "label": name} for name in LABELS[: foreign.tasks]],
        **({"ranking": " * ".join(LABELS)} if foreign.tasks > 1 else {}),
        "call": {"arguments": [{"name": "X", "form": "packed", "dtype": "float32", "columns": columns}]},
    }


def _feature(name: str, prepared: Prepared) -> dict[str, Any]:
    fields = prepared.fields
    feature: dict[str, Any] = {"name": name, "side": "item" if name in ITEM_SIDE else "request"}
    if name == DENSE:
        return feature | {"kind": "dense", "normalization": "none"}
    size = fields.sizes["movie" if name == HISTORY else name]
    feature |= {"kind": "categorical", "encoding": {"type": "identity", "size": size}}
    if name in FIELDS:
        return feature
    length = fields.history_length if name == HISTORY else fields.genres_length
    return feature | {"kind": "sequence", "max_length": length} | ({"table": "movie"} if name == HISTORY else {})


def _brought_in(told: ForeignModel, model: Any, prepared: Prepared, out: Path) -> ForeignModel:
    """``told`` with how far the model came."""
    schema_path = out.with_suffix(".yaml")
    loaded = load_module(out, schema_path)
    if loaded is not None:
        return told.model_copy(update={"refused": Refusal(stage="load", error=loaded)})
    dataset = load_dataset(out.parent / "rows.parquet", schema=load_yaml(Schema, schema_path))
    artifact = Artifact.open(out)
    variant = read_variant(artifact, BASELINE)
    tasks = artifact.read_json("schema.json", Schema).tasks
    told = told.model_copy(
        update={
            "links": {task.name: task.link for task in tasks},
            "macs_per_row": variant.macs_per_row,
            "tables": len(variant.tables),
        }
    )
    stage = "compile"
    try:
        rows = verification_rows(artifact, dataset)
        engines = (*ENGINES, "eager")
        built = compile_artifact(artifact, engines=engines, verify_batch=rows, out=out.with_suffix(".built"))
        stage = "certify"
        certified = certify(built, dataset, out=out.with_suffix(".certified"))
        stage = "serve"
        catalog = out.with_suffix(".catalog")
        found = [compare(certified, catalog, engine, model, prepared, dataset) for engine in ENGINES]
    except RankineError as error:
        return told.model_copy(update={"refused": Refusal(stage=stage, error=portable(str(error)))})
    return told.model_copy(update={"certified": "plan.json" in certified, "engines": tuple(found)})


def load_module(out: Path, schema: Path) -> str | None:
    """``rankine load`` in a process of its own, from the folder of the user's module; what it said where it refused."""
    command = [sys.executable, "-m", "rankine", "load", f"{out.name}:build", "--schema", schema.name]
    command += ["--data", "rows.parquet", "--out", out.name, "--json"]
    here = str(Path(__file__).resolve().parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=out.parent, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    try:
        fields = json.loads(done.stdout)["error"]
    except ValueError:
        return f"internal error: {done.stderr.strip().splitlines()[-1]}"
    del fields["code"]
    return portable(str(RankineError(fields.pop("message"), **fields)))


def portable(message: str) -> str:
    """Without where this machine has its packages."""
    return re.sub(r"\S*/site-packages/", "", message)


def _inputs(foreign: Foreign) -> str:
    parts = [f"{len(FIELDS)} fields"]
    parts += ["1 number"] if foreign.dense else []
    parts += ["1 pooled list"] if foreign.genres else []
    parts += ["1 history"] if foreign.history else []
    return ", ".join(parts)


def _told(model: ForeignModel) -> str:
    if model.refused:
        return f"refused by {model.refused.stage}: {model.refused.error}"
    return "equal" if model.equal else f"differs: {model.engines}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=movielens_folder, required=True, help="folder with MovieLens-1M as Parquet")
    parser.add_argument(
        "--models", nargs="+", choices=list(ZOO), default=list(ZOO), metavar="NAME", help="[default: all]"
    )
    parser.add_argument(
        "--rows", type=int, default=100_000, help="about as many ratings; all of a user's [default: 100,000]"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the users and the split [default: 0]")
    parser.add_argument("--work", type=Path, help="folder to keep models and artifacts in [default: a temporary one]")
    parser.add_argument("--out", type=new_file, required=True, help="result file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rankine-foreign-") as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(options.data, folder, options.models, options.rows, options.seed)
    options.out.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
