"""An ``nn.EmbeddingBag`` model, brought in, against the same model written with Embedding, a mask and a sum.

$ python benchmarks/embedding_bag.py [--rows 512] [--repeats 300] [--out benchmarks/results/embedding-bag.json]

Three forms of one model with the same weights are timed in turn, in one thread, on ONNX Runtime: ``bag``, brought in by
``rankine load``, tables outside of the graph; ``masked``, the other writing, brought in the same way; ``masked_onnx``,
the other writing as PyTorch exports it, tables inside, ids as input. The bar: ``bag`` takes at most 1.3 times the
faster of the other two. Exit status 0 where it holds, else 1.

Less than a minute on one core; needs PyTorch.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from script import new_file, run_script
from torch import Tensor, nn

from rankine.compilation.engine import Target
from rankine.compilation.engines import load_engine
from rankine.config import Frozen, parse
from rankine.data.dataset import Dataset
from rankine.environment import environment
from rankine.models.arguments import call_arguments
from rankine.models.columns import Batch, Ragged
from rankine.models.exporter import quiet_exporter
from rankine.models.schema import Schema
from rankine.models.variant import BASELINE, load_model
from rankine.training.load import load

USERS, ITEMS, VALUES, LENGTH, DIM = 20_000, 20_000, 5_000, 20, 16
BAGS = ("tags", "words")
DATA_ROWS = 2_000
BAR = 1.3

Form = Literal["bag", "masked", "masked_onnx"]


class EmbeddingBagResult(Frozen):
    """What was measured; times are medians in milliseconds."""

    schema_version: int = 1
    created: datetime
    rows: int
    repeats: int
    median_ms: Mapping[Form, float]
    ratio: float
    bar: float = BAR
    operators: tuple[str, ...]
    environment: Mapping[str, str | int | float]


class WithBags(nn.Module):
    """User and item, and two bags that are summed by ``nn.EmbeddingBag``."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, DIM), nn.Embedding(ITEMS, DIM)
        self.tags, self.words = (nn.EmbeddingBag(VALUES, DIM, mode="sum") for _ in BAGS)
        self.deep = nn.Sequential(nn.Linear(4 * DIM, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(
        self, user: Tensor, item: Tensor, tags: Tensor, tag_offsets: Tensor, words: Tensor, word_offsets: Tensor
    ) -> Tensor:
        pooled = [self.tags(tags, tag_offsets), self.words(words, word_offsets)]
        return torch.sigmoid(self.deep(torch.cat([self.user(user), self.item(item), *pooled], dim=1)))


class WithMasks(nn.Module):
    """The same with padded ids, a mask and a sum."""

    def __init__(self, bags: WithBags) -> None:
        super().__init__()
        self.user, self.item, self.deep = bags.user, bags.item, bags.deep
        self.tags, self.words = (nn.Embedding.from_pretrained(bag.weight.data) for bag in (bags.tags, bags.words))

    def forward(self, user: Tensor, item: Tensor, tags: Tensor, words: Tensor) -> Tensor:
        pooled = [
            (table(ids) * (ids != 0).unsqueeze(-1)).sum(1) for table, ids in ((self.tags, tags), (self.words, words))
        ]
        return torch.sigmoid(self.deep(torch.cat([self.user(user), self.item(item), *pooled], dim=1)))


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512, help="of a call [default: 512]")
    parser.add_argument("--repeats", type=int, default=300, help="calls of each form [default: 300]")
    parser.add_argument("--out", type=new_file, help="result file [default: none is written]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="rankine-bags-") as scratch:
        result = measure(Path(scratch), options.rows, options.repeats)
    for form, milliseconds in result.median_ms.items():
        print(f"{form:12} {milliseconds:.3f} ms")
    print(f"ratio {result.ratio:.2f} (bar {BAR}); operators of the brought-in graph: {', '.join(result.operators)}")
    if options.out is not None:
        options.out.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return 0 if result.ratio <= BAR else 1


def measure(folder: Path, rows: int, repeats: int) -> EmbeddingBagResult:
    """Bring both writings in, and time the three forms in turn."""
    torch.manual_seed(0)
    bags = WithBags().eval()
    masks = WithMasks(bags).eval()
    batch = batch_of(rows)
    bag, graph = brought_in(bags, schema_of("multi_hot"), folder / "bag", batch)
    masked, _ = brought_in(masks, schema_of("sequence"), folder / "masked", batch)
    calls = {"bag": bag, "masked": masked, "masked_onnx": exported(masks, folder / "masked.onnx", batch)}
    first, *others = (call() for call in calls.values())
    for other in others:  # the three must be one model
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-5)
    medians = timed(calls, repeats)
    return EmbeddingBagResult(
        created=datetime.now(UTC),
        rows=rows,
        repeats=repeats,
        median_ms=medians,
        ratio=medians["bag"] / min(medians["masked"], medians["masked_onnx"]),
        operators=tuple(sorted({node.op_type for node in onnx.load(str(graph)).graph.node})),
        environment=environment(),
    )


def schema_of(kind: Literal["multi_hot", "sequence"]) -> Schema:
    """Lists as sets or as sequences, and how the model takes them."""

    def ids(name: str, size: int, **more: Any) -> dict[str, Any]:
        encoding = {"type": "identity", "size": size}
        return {"name": name, "side": "pair", "kind": "categorical", "encoding": encoding, **more}

    lists = {"kind": kind, "max_length": LENGTH} | ({"pooling": "sum"} if kind == "multi_hot" else {})
    arguments = [{"name": name, "feature": name} for name in ("user", "item")]
    for name in BAGS:
        forms = ("values", "offsets") if kind == "multi_hot" else ("padded",)
        arguments += [{"name": f"{name}_{form}", "feature": name, "form": form} for form in forms]
    features = [ids("user", USERS), ids("item", ITEMS), *(ids(name, VALUES, **lists) for name in BAGS)]
    return parse(Schema, {"item_id": "item_id", "features": features, "call": {"arguments": arguments}})


def batch_of(rows: int, seed: int = 0) -> Batch:
    """Random ids; lists of 1 to 20 values without 0, which pads."""
    random = np.random.default_rng(seed)
    pair: dict[str, Any] = {
        "user": random.integers(0, USERS, rows, dtype=np.int32),
        "item": random.integers(0, ITEMS, rows, dtype=np.int32),
    }
    for name in BAGS:
        offsets = np.concatenate([[0], np.cumsum(random.integers(1, LENGTH + 1, rows))]).astype(np.int32)
        pair[name] = Ragged(random.integers(1, VALUES, offsets[-1], dtype=np.int32), offsets)
    index = np.arange(rows, dtype=np.int32)
    return Batch({}, {}, pair, index, index)


def brought_in(module: nn.Module, schema: Schema, folder: Path, batch: Batch) -> tuple[Callable[[], Any], Path]:
    """A call of the module as an artifact on ONNX Runtime, and its graph."""
    rows = batch_of(DATA_ROWS, seed=1)
    labels = np.random.default_rng(2).integers(0, 2, (DATA_ROWS, 1)).astype(np.float32)
    dataset = Dataset(
        name="random",
        schema=schema,
        requests={},
        items={},
        item_ids=np.arange(DATA_ROWS),
        pairs=rows.pair,
        request_index=rows.request_index,
        item_index=rows.item_index,
        labels=labels,
    )
    model = load_model(load(module, schema, dataset, out=folder, name="bags"), BASELINE)
    engine, build = load_engine("onnxruntime"), folder.with_suffix(".build")
    build.mkdir()
    engine.build(model, Target(), build)
    runner = engine.open(model, build, threads=1)
    out = np.empty((batch.rows, 1), np.float32)

    def call() -> np.ndarray:
        runner.run(batch, out)
        return out

    return call, model.graph


def exported(module: nn.Module, path: Path, batch: Batch) -> Callable[[], Any]:
    """A call of PyTorch's own export of the module, in ONNX Runtime; its sigmoid is undone for the comparison only."""
    schema = schema_of("sequence")
    given = call_arguments(schema.call, schema, batch) if schema.call is not None else {}
    rows = torch.export.Dim("rows", min=1, max=2**31 - 2)
    with quiet_exporter():
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(values) for values in given.values()),
            str(path),
            dynamo=True,
            input_names=list(given),
            dynamic_shapes=tuple({0: rows} for _ in given),
            external_data=False,
            verbose=False,
        )
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.op_type = "Identity" if node.op_type == "Sigmoid" else node.op_type
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])

    def call() -> np.ndarray:
        (logits,) = session.run(None, given)
        return np.asarray(logits)

    return call


def timed(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[Any, float]:
    """Median milliseconds of each; the calls are interleaved, so that a slow moment meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(5):
            call()
    gc.disable()
    for _ in range(repeats):
        for name, call in calls.items():
            begin = perf_counter()
            call()
            times[name].append(perf_counter() - begin)
    gc.enable()
    return {name: float(np.median(values)) * 1e3 for name, values in times.items()}


if __name__ == "__main__":
    run_script(main)
