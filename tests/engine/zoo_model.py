"""A small DCN-v2 of the zoo, exported and quantized as the stages do it: what the stages hand to compilation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from engine.small_model import small_batch, small_schema
from rankine.artifact import Artifact, Draft
from rankine.compression.quantize import quantize_graph
from rankine.compression.table_forms import quantize_table
from rankine.models.lookup_reference import reference_lookup
from rankine.models.variant import BASELINE, Variant, load_model, write_tables

QUANTIZED = "int8"


def zoo_artifact(folder: Path) -> Artifact:
    """Variants ``baseline`` (FP32, with a checkpoint) and ``int8`` over the schema of the small model."""
    import torch

    from rankine.models.network import network_of, put_network
    from rankine.models.zoo.dcn_v2 import DcnV2, DcnV2Config

    torch.manual_seed(3)
    config = DcnV2Config(embedding_dim=8, hidden=(32, 16), cross_layers=2)
    schema = small_schema(history=True)
    model = DcnV2(schema, {"user": 50, "item": 400, "genre": 20, "tag": 30}, config)
    for table in model.tables.values():
        torch.nn.init.normal_(table.weight, std=0.5)
    draft = Draft("trained", name="zoo")
    draft.put_json("schema.json", schema)
    network = network_of(model.eval())
    put_network(draft, network, name=BASELINE, parent=None, steps=(), validation_auc=0.5, details={"seed": 3})
    baseline = draft.commit(folder / "trained")
    return _quantized(baseline, folder)


def _quantized(parent: Artifact, folder: Path) -> Artifact:
    model = load_model(parent, BASELINE)
    draft = Draft("compressed", parent=parent)
    inputs = reference_lookup(model.schema, model.tables, small_batch(1000, seed=5), np.float32)
    onnx.save(quantize_graph(onnx.load(model.graph), inputs), folder / "int8.onnx")
    draft.put_file(f"variants/{QUANTIZED}/graph.onnx", folder / "int8.onnx")
    tables = {name: quantize_table(table, "int8") for name, table in model.tables.items()}
    types = write_tables(draft, QUANTIZED, tables)
    draft.put_json(
        f"variants/{QUANTIZED}/variant.json",
        Variant(name=QUANTIZED, parent=BASELINE, numeric="int8", macs_per_row=1, tables=types),
    )
    return draft.commit(folder / "compressed")
