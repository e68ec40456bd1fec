"""What `gpu.py` times: every kernel at the shapes of DCN-v2 (big) and of its kin, and the peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from native_speed.record import BIG

from rankine.compilation.engines.triton_lang import kernels as own
from rankine.compilation.engines.triton_lang.kernels.linear import Form
from rankine.compilation.engines.triton_lang.kernels.lookup import Bag
from rankine.compilation.engines.triton_lang.roofline import (
    Work,
    cross_work,
    din_work,
    interaction_work,
    linear_work,
    lookup_work,
    program_work,
    softmax_work,
    top_work,
)
from rankine.compilation.fused.program import Program
from rankine.models.tables import Table, pack_int4
from rankine.models.variant import Model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_ROWS, _REQUESTS = 512, 1
_FIELDS, _DIM, _VALUES, _TABLE_ROWS = 26, 16, 1, 20_000
_INNER, _HIDDEN = 429, (1024, 512, 256)


@dataclass(frozen=True)
class Timed:
    """One row to be: ``device`` is run on the GPU and timed there, ``call`` by the host's clock."""

    what: str
    scope: str
    form: str
    rows: int
    work: Work
    device: Callable[[], object] | None = None
    call: Callable[[], object] | None = None
    why_not: str = ""


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE)


def kernels() -> Iterator[Timed]:
    """Each kernel of its own."""
    for form in ("fp32", "bf16", "fp8", "int8"):
        for rows in (_ROWS, 16_384):
            yield _linear(form, rows)
            yield _linear(form, rows, split=True)
    for kind, form in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        yield _cross(kind, form)
        yield _interaction(kind, form)
    for form in ("float32", "int8", "int4"):
        yield _lookup(form)
    yield from _attention()
    source, weight = _normal(_ROWS, 256), _normal(256)
    offsets = torch.tensor([0, _ROWS], dtype=torch.int32, device=DEVICE)
    scores = torch.zeros(1, 50, device=DEVICE)
    best = torch.zeros(1, 50, dtype=torch.int32, device=DEVICE)
    yield Timed(
        "last layer, sigmoid and the best 50",
        "kernel",
        "fp32",
        _ROWS,
        top_work(_ROWS, 256, 1, 50),
        device=lambda: own.top_scores(source, weight, 0.1, offsets, _ROWS, scores, best),
    )


def _linear(form: Form, rows: int, *, split: bool = False) -> Timed:
    """The first and largest layer of the MLP; split, its request's half is added in the epilogue."""
    inner, width = (_INNER // 2 if split else _INNER), _HIDDEN[0]
    random = np.random.default_rng(0)
    if form == "int8":
        layer = own.weights(random.integers(-127, 128, (inner, width)).astype(np.int8), form, DEVICE)
        source = torch.randint(0, 256, (rows, inner), dtype=torch.uint8, device=DEVICE)
    else:
        layer = own.weights(random.standard_normal((inner, width)).astype(np.float32), form, DEVICE, largest=4.0)
        source = _normal(rows, inner)
    target, bias, shared = _normal(rows, width), _normal(width), _normal(_REQUESTS, width)
    index = torch.zeros(rows, dtype=torch.int32, device=DEVICE)
    given = {"addend": shared, "addend_index": index} if split else {}
    name = f"{'split layer' if split else 'layer'} {inner}-{width}, ReLU"
    work = linear_work(rows, inner, width, form, shared=_REQUESTS if split else 0)
    return Timed(
        name,
        "kernel",
        form,
        rows,
        work,
        device=lambda: own.linear(source, layer, target=target, bias=bias, kind=1, **given),
    )


def _cross(kind: torch.dtype, form: str) -> Timed:
    first, source, target, rank = _normal(_ROWS, _INNER), _normal(_ROWS, _INNER), _normal(_ROWS, _INNER), 64
    down, up, bias = _normal(_INNER, rank).to(kind), _normal(rank, _INNER).to(kind), _normal(_INNER)
    return Timed(
        f"cross layer {_INNER}, rank {rank}",
        "kernel",
        form,
        _ROWS,
        cross_work(_ROWS, _INNER, rank, form),
        device=lambda: own.low_rank_cross(first, source, down, up, bias, target),
    )


def _interaction(kind: torch.dtype, form: str) -> Timed:
    vectors, target = _normal(_ROWS, 27, 64).to(kind), _normal(_ROWS, 27 * 13)
    return Timed(
        "dot interaction of 27 x 64",
        "kernel",
        form,
        _ROWS,
        interaction_work(_ROWS, 27, 64, form),
        device=lambda: own.dot_interaction(vectors, target),
    )


def _lookup(form: str) -> Timed:
    """26 tables of 20,000 rows; the copy of ids to the GPU is a part of it."""
    random = np.random.default_rng(1)
    tables, bags = {}, []
    for field in range(_FIELDS):
        codes = random.integers(0, 16 if form == "int4" else 256, (_TABLE_ROWS, _DIM)).astype(np.uint8)
        scale, bias = np.full(_TABLE_ROWS, 0.01, np.float32), np.zeros(_TABLE_ROWS, np.float32)
        if form == "float32":
            table = Table(codes.astype(np.float32))
        else:
            packed = pack_int4(codes) if form == "int4" else codes
            table = Table(packed, scale, bias, columns=_DIM if form == "int4" else None)
        tables[f"t{field}"] = table
        ids = random.integers(0, _TABLE_ROWS, _ROWS).astype(np.int32)
        index = np.arange(_ROWS, dtype=np.int32)
        bags.append(Bag(f"t{field}", ids, np.arange(_ROWS + 1, dtype=np.int32), index, field * _DIM))
    held, target = own.DeviceTables(tables, DEVICE), _normal(_ROWS, _FIELDS * _DIM)
    count = _FIELDS * _ROWS
    return Timed(
        "lookup in 26 tables, with copies",
        "call",
        form,
        _ROWS,
        lookup_work(count * _VALUES, count, _DIM, tables["t0"].read_bytes),
        call=lambda: own.pooled_lookup(held, bags, target),
    )


def _attention() -> Iterator[Timed]:
    length, width, hidden = 50, 64, 36
    query, target = _normal(_ROWS, width), _normal(_ROWS, width)
    history, lengths = _normal(1, length, width), torch.full((1,), length, dtype=torch.int32, device=DEVICE)
    index = torch.zeros(_ROWS, dtype=torch.int32, device=DEVICE)
    yield Timed(
        f"softmax attention over {length} x {width}",
        "kernel",
        "fp32",
        _ROWS,
        softmax_work(_ROWS, 1, length, width),
        device=lambda: own.softmax_attention(query, history, lengths, index, target, scale=0.125),
    )
    of_query, of_history, product = _normal(_ROWS, hidden), _normal(1, length, hidden), _normal(width, hidden)
    last = _normal(hidden)
    yield Timed(
        f"DIN's attention over {length} x {width}, {hidden} units",
        "kernel",
        "fp32",
        _ROWS,
        din_work(_ROWS, 1, length, width, hidden),
        device=lambda: own.din_attention(
            query, history, lengths, index, of_query, of_history, product, last, 0.1, target
        ),
    )


class DcnV2(torch.nn.Module):
    """The dense part of DCN-v2 (big) as one writes it in PyTorch; random weights of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.cross = torch.nn.ModuleList(torch.nn.Linear(_INNER, _INNER) for _ in range(3))
        sizes = (_INNER, *_HIDDEN)
        self.deep = torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in pairwise(sizes))
        self.last = torch.nn.Linear(_INNER + _HIDDEN[-1], 1)

    def forward(self, first: torch.Tensor) -> torch.Tensor:
        crossed, deep = first, first
        for layer in self.cross:
            crossed = first * layer(crossed) + crossed
        for layer in self.deep:
            deep = torch.relu(layer(deep))
        out: torch.Tensor = self.last(torch.cat([crossed, deep], dim=1))
        return out


def peers(model: Model, program: Program, all_rows: Sequence[int]) -> Iterator[Timed]:
    """The dense part alone in PyTorch, on what is on the device already: no lookup, no copy; and in ONNX Runtime."""
    on_gpu = DEVICE.type == "cuda"
    for kind, form in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        module = DcnV2().to(DEVICE, kind).eval().requires_grad_(False)
        sides = {"torch eager": module}
        if on_gpu:
            sides["torch.compile"] = torch.compile(module, mode="max-autotune", dynamic=False)
        for name in ("torch eager", "torch.compile"):
            for rows in all_rows:
                work = program_work(program, rows, form)
                if name not in sides:
                    yield Timed(f"{BIG}, {name}", "device", form, rows, work)
                    continue
                given = torch.randn(rows, _INNER, device=DEVICE, dtype=kind)
                yield Timed(
                    f"{BIG}, {name}",
                    "device",
                    form,
                    rows,
                    work,
                    device=lambda run=sides[name], given=given: run(given),
                )
    yield from _onnxruntime(model, program, all_rows)


def _onnxruntime(model: Model, program: Program, all_rows: Sequence[int]) -> Iterator[Timed]:
    """With copies of its inputs from the host, and of the logits back."""
    import onnxruntime as ort

    provider = "CUDAExecutionProvider"
    is_here = provider in ort.get_available_providers()
    session = ort.InferenceSession(str(model.graph), providers=[provider]) if is_here else None
    for rows in all_rows:
        name, work = f"{BIG}, ONNX Runtime", program_work(program, rows)
        if session is None:
            yield Timed(name, "call", "fp32", rows, work, why_not=f"this build has no {provider}")
            continue
        given = {one.name: np.zeros((rows, one.shape[1]), np.float32) for one in session.get_inputs()}
        yield Timed(name, "call", "fp32", rows, work, call=lambda given=given: session.run(None, given))
