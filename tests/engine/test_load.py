"""Models that nobody here wrote: brought in, compiled, and equal to themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from conftest import is_ci
from engine.foreign_models import EXAMPLES, Example
from engine.networks import Loaded
from rankine.artifact import Artifact
from rankine.compilation.compile import build_names, compile_artifact, open_runner
from rankine.data import load_dataset
from rankine.data.dataset import Dataset
from rankine.data.table_stream import stream_table
from rankine.events import Note
from rankine.models.arguments import call_arguments
from rankine.models.columns import Batch
from rankine.models.exporter import quiet_exporter
from rankine.models.intake.calling import bind
from rankine.models.random_rows import random_batch
from rankine.models.schema import Schema
from rankine.models.transforms import Transforms
from rankine.models.variant import BASELINE, load_model
from rankine.training.load import load
from rankine.training.record import TRAINING_FILE, BaselineRecord

ROWS = (1, 7, 512)
AS_PROGRAM = ("per_feature", "bag_mean", "normed", "tasks")
AS_ONNX = ("per_feature", "packed", "offsets", "history", "normed")


@pytest.fixture(scope="module")
def bring(
    example_rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, nn.Module | str | Path], tuple[Artifact, Dataset]]:
    """Loads an example's model in any form."""

    def bring(name: str, model: nn.Module | str | Path) -> tuple[Artifact, Dataset]:
        schema = EXAMPLES[name].schema
        dataset = load_dataset(example_rows, schema=schema)
        out = tmp_path_factory.mktemp("loaded") / "model"
        return load(model, schema, dataset, out=out, name=name), dataset

    return bring


@pytest.mark.engine
@pytest.mark.parametrize("name", EXAMPLES)
def test_module_scores_as_itself_on_every_engine_when_brought_in(
    name: str, loaded: Callable[[str], Loaded], tmp_path: Path
) -> None:
    found, module = loaded(name), EXAMPLES[name].build().eval()
    assert found.module.training  # as it was handed over
    check_engines(found.artifact, found.dataset, EXAMPLES[name], module, tmp_path, eager=True)


@pytest.mark.engine
@pytest.mark.parametrize("name", AS_PROGRAM)
def test_program_scores_as_its_module_when_brought_in_as_pt2(
    name: str, bring: Callable[..., tuple[Artifact, Dataset]], tmp_path: Path
) -> None:
    module = EXAMPLES[name].build().eval()
    artifact, dataset = bring(name, save_program(EXAMPLES[name], module, tmp_path / "model.pt2"))
    check_engines(artifact, dataset, EXAMPLES[name], module, tmp_path, eager=True)


def test_program_is_brought_in_when_its_dictionary_has_another_order(
    bring: Callable[..., tuple[Artifact, Dataset]], tmp_path: Path
) -> None:
    """The schema's call has the item first; the sizes and types of both are the same, so that a mix-up would run."""
    module, path = EXAMPLES["tasks"].build().eval(), tmp_path / "model.pt2"
    ids, rows = torch.zeros(5, dtype=torch.long), {0: torch.export.Dim("rows")}
    given = ({"user": ids, "item": ids.clone()},)
    torch.export.save(torch.export.export(module, given, dynamic_shapes=({"user": rows, "item": rows},)), path)
    artifact, dataset = bring("tasks", path)
    check_engines(artifact, dataset, EXAMPLES["tasks"], module, tmp_path, eager=True)


@pytest.mark.engine
@pytest.mark.parametrize("name", AS_ONNX)
def test_graph_scores_as_its_module_when_brought_in_as_onnx(
    name: str, bring: Callable[..., tuple[Artifact, Dataset]], tmp_path: Path
) -> None:
    module = EXAMPLES[name].build().eval()
    artifact, dataset = bring(name, save_onnx(EXAMPLES[name], module, tmp_path / "model.onnx"))
    assert load_model(artifact, BASELINE).checkpoint is None
    check_engines(artifact, dataset, EXAMPLES[name], module, tmp_path, eager=False)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("bag_")])
def test_graph_has_no_loop_and_no_sequence_when_a_model_has_embedding_bags(
    name: str, loaded: Callable[[str], Loaded]
) -> None:
    graph = onnx.load(str(load_model(loaded(name).artifact, BASELINE).graph))
    operators = {node.op_type for node in graph.graph.node}
    assert operators <= {"Concat", "Gemm", "MatMul", "Add", "Relu", "Identity"}
    assert {value.type.tensor_type.elem_type for value in graph.graph.input} == {onnx.TensorProto.FLOAT}


def test_model_is_the_same_and_sides_are_said_to_be_unchecked_when_rows_are_streamed(
    example_rows: Path, loaded: Callable[[str], Loaded], tmp_path: Path
) -> None:
    whole = loaded("history").artifact
    schema, events = EXAMPLES["history"].schema, []
    streamed = stream_table(example_rows, schema, chunk_rows=100)
    artifact = load(
        EXAMPLES["history"].build(), schema, streamed, out=tmp_path / "out", name="history", emit=events.append
    )
    fitted = [Transforms.read(found) for found in (whole, artifact)]
    assert fitted[0].fingerprint() == fitted[1].fingerprint()
    assert load_model(artifact, BASELINE).graph.read_bytes() == load_model(whole, BASELINE).graph.read_bytes()
    notes = [event.text for event in events if isinstance(event, Note) and event.task == "sides"]
    assert len(notes) == 1
    assert "not checked to be the item's" in notes[0]


def test_record_says_where_a_model_came_from_when_loaded(
    bring: Callable[..., tuple[Artifact, Dataset]], loaded: Callable[[str], Loaded]
) -> None:
    artifact, dataset = bring("per_feature", "engine.foreign_models:per_feature")
    record = artifact.read_json(TRAINING_FILE, BaselineRecord)
    assert artifact.manifest.stage == "load"
    assert record.origin is not None
    assert (record.origin.kind, record.origin.reference) == ("module", "engine.foreign_models:per_feature")
    assert (record.result, record.fit, record.model) == (None, None, None)
    assert record.proof is not None
    assert record.proof.rows == {"random": sum(ROWS), "real": record.rows["train"] + record.rows["validation"]}
    other = loaded("per_feature").artifact.read_json(TRAINING_FILE, BaselineRecord)
    assert other.origin is not None
    assert other.origin.sha256 == record.origin.sha256
    assert sum(record.rows.values()) == dataset.rows


def test_links_are_those_of_the_model_when_the_schema_says_none(loaded: Callable[[str], Loaded]) -> None:
    schema = loaded("tasks").artifact.read_json("schema.json", Schema)
    assert tuple(task.link for task in schema.tasks) == EXAMPLES["tasks"].links


def test_macs_are_those_of_the_linear_layers_when_counted_from_the_graph(loaded: Callable[[str], Loaded]) -> None:
    from rankine.models.variant import read_variant

    found = loaded("packed")
    linear = [layer for layer in found.module.modules() if isinstance(layer, nn.Linear)]
    expected = sum(layer.in_features * layer.out_features for layer in linear)
    assert read_variant(found.artifact, BASELINE).macs_per_row == expected


def check_engines(
    artifact: Artifact, dataset: Dataset, example: Example, module: nn.Module, folder: Path, *, eager: bool
) -> None:
    """Compile for all engines and compare each with the user's own module, on logits."""
    transforms = Transforms.read(artifact)
    real = dataset.encode(transforms)
    compiled = compile_artifact(artifact, verify_batch=real.select(slice(0, 64)), out=folder / "compiled")
    engines = build_names(compiled, BASELINE)
    if is_ci():
        assert {"onnxruntime", "openvino"} <= set(engines)
    assert engines
    assert ("eager" in engines) == eager
    schema = transforms.schema
    assert tuple(task.link for task in schema.tasks) == example.links
    for engine in engines:
        runner = open_runner(compiled, BASELINE, engine)
        try:
            for count in ROWS:
                for batch in (
                    random_batch(schema, transforms.table_rows(), count, seed=3),
                    real.select(slice(0, count)),
                ):
                    out = np.empty((batch.rows, len(schema.tasks)), np.float32)
                    runner.run(batch, out)
                    wanted = own_logits(module, example, batch)
                    assert (np.abs(out - wanted) / np.maximum(1, np.abs(wanted))).max() <= 1e-5
        finally:
            runner.close()


def own_logits(module: nn.Module, example: Example, batch: Batch) -> np.ndarray:
    """What the user's own module says, as logits ``(rows, tasks)``."""
    schema = example.schema
    assert schema.call is not None
    positional, named = bind(schema.call, given(schema, batch))
    with torch.inference_mode():
        outputs: Any = module(*positional, **named)
    parts = [outputs[task] for task in schema.task_names] if isinstance(outputs, Mapping) else [outputs]
    columns = [part.double().reshape(batch.rows, 1) for part in parts]
    linked = zip(columns, example.links, strict=True)
    return np.concatenate([(torch.logit(c) if link == "sigmoid" else c).numpy() for c, link in linked], axis=1)


def given(schema: Schema, batch: Batch) -> list[Tensor]:
    assert schema.call is not None
    return [torch.from_numpy(values) for values in call_arguments(schema.call, schema, batch).values()]


def save_program(example: Example, module: nn.Module, path: Path) -> Path:
    """As its owner would: exported with dynamic rows, by its own kind of arguments."""
    positional, named, shapes = exportable(example)
    with quiet_exporter():
        program = torch.export.export(module, positional, named, dynamic_shapes=shapes)
        torch.export.save(program, path)
    return path


def save_onnx(example: Example, module: nn.Module, path: Path) -> Path:
    """As its owner would, with the exporter's own names for the outputs."""
    positional, named, shapes = exportable(example)
    names = [argument.name for argument in example.schema.call.arguments] if example.schema.call else []
    order = list(named) or names
    with quiet_exporter():
        torch.onnx.export(
            module, positional, str(path), kwargs=named, dynamo=True, input_names=order, dynamic_shapes=shapes,
            verbose=False,
        )  # fmt: skip
    return path


def exportable(example: Example) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Arguments of an example, and which of their dimensions vary."""
    schema = example.schema
    assert schema.call is not None
    sizes = {"user": 40, "item": 60, "slot": 5, "tags": 25}
    count, values = torch.export.Dim("rows", min=1, max=2**31 - 2), torch.export.Dim("values", min=0, max=2**31 - 2)
    shapes = {"values": {0: values}, "weights": {0: values}, "ends": {0: count + 1}}
    varying = [shapes.get(argument.form, {0: count}) for argument in schema.call.arguments]
    positional, named = bind(schema.call, given(schema, random_batch(schema, sizes, 5)))
    shaped, by_name = bind(schema.call, varying)
    return positional, named, by_name or shaped
