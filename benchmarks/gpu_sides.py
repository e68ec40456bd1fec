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
from rankine.compilation.engines.triton_lang.kernels.lookup import LookupField, fields_of
from rankine.compilation.engines.triton_lang.packet import Bags, packet_bytes, write_packet
from rankine.compilation.engines.triton_lang.roofline import (
    Work,
    cross_work,
    interaction_work,
    linear_work,
    lookup_work,
    program_work,
    softmax_work,
    spread_work,
    top_work,
    unit_work,
)
from rankine.compilation.engines.triton_lang.tables import DeviceTables
from rankine.compilation.fused.program import Program
from rankine.models.tables import Table, pack_int4
from rankine.models.variant import Model

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_ROWS, _REQUESTS = 512, 1
_FIELDS, _DIM, _VALUES, _TABLE_ROWS = 26, 16, 1, 20_000
_INNER, _HIDDEN = 429, (1024, 512, 256)
_FORMS: tuple[Form, ...] = ("fp32", "bf16", "fp8", "int8")


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
    for form in _FORMS:
        for rows in (_ROWS, 16_384):
            yield _linear(form, rows)
            yield _linear(form, rows, split=True)
    for form in _FORMS:
        yield _cross(form)
    for form in ("fp32", "bf16"):
        yield _interaction(form)
    for rows in (_ROWS, 16_384):
        for form in ("float32", "float16", "int8", "int4"):
            yield from _lookup(form, rows)
    yield from _lookup("int8", _ROWS, share=0.1)
    yield from _attention()
    shared, index, spread_to = _normal(_REQUESTS, 512), _zeros(_ROWS), _normal(_ROWS, 512)
    yield Timed(
        "spread of 512 numbers of a request",
        "kernel",
        "fp32",
        _ROWS,
        spread_work(_ROWS, _REQUESTS, 512),
        device=lambda: own.spread(shared, index, spread_to),
    )
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


def _zeros(rows: int) -> torch.Tensor:
    return torch.zeros(rows, dtype=torch.int32, device=DEVICE)


def _layer(form: Form, inner: int, width: int) -> own.Weights:
    random = np.random.default_rng(0)
    if form == "int8":
        return own.weights(random.integers(-127, 128, (inner, width)).astype(np.int8), form, DEVICE)
    return own.weights(random.standard_normal((inner, width)).astype(np.float32), form, DEVICE)


def _source(form: Form, rows: int, inner: int) -> torch.Tensor:
    if form == "int8":
        return torch.randint(0, 256, (rows, inner), dtype=torch.uint8, device=DEVICE)
    return _normal(rows, inner)


def _linear(form: Form, rows: int, *, split: bool = False) -> Timed:
    """The first and largest layer of the MLP; split, its request's half is added in the epilogue."""
    inner, width = (_INNER // 2 if split else _INNER), _HIDDEN[0]
    layer, source = _layer(form, inner, width), _source(form, rows, inner)
    target, bias, shared = _normal(rows, width), _normal(width), _normal(_REQUESTS, width)
    given = {"shared": shared, "request_index": _zeros(rows)} if split else {}
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


def _cross(form: Form) -> Timed:
    first, added, target, rank = _normal(_ROWS, _INNER), _normal(_ROWS, _INNER), _normal(_ROWS, _INNER), 64
    down, up, bias, steps = _layer(form, _INNER, rank), _layer(form, rank, _INNER), _normal(_INNER), _normal(rank)
    source = _source(form, _ROWS, _INNER) if form == "int8" else added
    return Timed(
        f"cross layer {_INNER}, rank {rank}",
        "kernel",
        form,
        _ROWS,
        cross_work(_ROWS, _INNER, rank, form),
        device=lambda: own.low_rank_cross(
            source, down, up, first, added, target, bias=bias, between_quant=steps if form == "int8" else None
        ),
    )


def _interaction(form: Form) -> Timed:
    vectors, target = _normal(_ROWS, 27 * 64), _normal(_ROWS, 27 * 13)
    columns = own.pairs_below(27).to(DEVICE)
    return Timed(
        "dot interaction of 27 x 64",
        "kernel",
        form,
        _ROWS,
        interaction_work(_ROWS, 27, 64, form),
        device=lambda: own.dot_interaction(vectors, columns, target, width=64, form=form),
    )


def _lookup(form: str, rows: int, share: float = 1.0) -> Iterator[Timed]:
    """26 tables of 20,000 rows: the kernel, and with the ids' way to it.

    Args:
        share: of the tables that the device has room for.
    """
    random = np.random.default_rng(1)
    tables = {f"t{field}": _table(form, random) for field in range(_FIELDS)}
    size = sum(table.count * table.read_bytes for table in tables.values())
    held = DeviceTables(tables, DEVICE, int(share * size) if share < 1 else 1 << 40)
    ids = random.integers(0, _TABLE_ROWS, (_FIELDS, rows)).astype(np.int32)
    arena = _normal(rows, _FIELDS * _DIM)
    fields = fields_of([LookupField(at, at * _DIM, _FIELDS * _DIM, _DIM) for at in range(_FIELDS)], DEVICE)
    bags = _bags(held, ids)
    staged = torch.zeros(2 * packet_bytes(bags) // 8 + 1, dtype=torch.int64, pin_memory=DEVICE.type == "cuda")
    packet = staged.to(DEVICE)
    write_packet(bags, rows, staged.numpy(), packet.data_ptr() - held.memory.data_ptr())
    packet.copy_(staged)
    spilled = float(sum(one.rows.nbytes for own_bags in bags for one in own_bags.spilled))

    def kernel() -> None:
        own.lookup(held.memory, packet, fields, arena.view(-1), rows, widest=_DIM, forms=held.forms)

    def call() -> None:
        with held.inside():
            start = packet.data_ptr() - held.memory.data_ptr()
            used = write_packet(_bags(held, ids), rows, staged.numpy(), start) // 8
            packet[:used].copy_(staged[:used], non_blocking=True)
            kernel()
            torch.cuda.synchronize()

    name = "lookup in 26 tables" + (f", {share:.0%} of them on the device" if share < 1 else "")
    count, row_bytes = _FIELDS * rows, tables["t0"].read_bytes
    yield Timed(name, "kernel", form, rows, lookup_work(count, count, _DIM, row_bytes), device=kernel)
    work = lookup_work(count, count, _DIM, row_bytes, copied=spilled)
    yield Timed(f"{name}, with the ids' way", "call", form, rows, work, call=call)


def _table(form: str, random: np.random.Generator) -> Table:
    codes = random.integers(0, 16 if form == "int4" else 256, (_TABLE_ROWS, _DIM)).astype(np.uint8)
    if form.startswith("float"):
        return Table(codes.astype(form))
    scale, bias = np.full(_TABLE_ROWS, 0.01, np.float32), np.zeros(_TABLE_ROWS, np.float32)
    return Table(pack_int4(codes) if form == "int4" else codes, scale, bias, columns=_DIM if form == "int4" else None)


def _bags(held: DeviceTables, ids: np.ndarray) -> list[Bags]:
    found = []
    for at, own_ids in enumerate(ids):
        entries, spilled = held.entries(f"t{at}", own_ids)
        found.append(Bags(entries[None], spilled=spilled))
    return found


def _attention() -> Iterator[Timed]:
    length, width = 50, 64
    query, target = _normal(_ROWS, width), _normal(_ROWS, width)
    lengths = torch.full((1,), length, dtype=torch.int32, device=DEVICE)
    history = own.History(_normal(1, length * width), length, lengths, _zeros(_ROWS))
    yield Timed(
        f"softmax attention over {length} x {width}",
        "kernel",
        "fp32",
        _ROWS,
        softmax_work(_ROWS, 1, length, width),
        device=lambda: own.softmax_attention(query, history, target, scale=0.125),
    )
    for form in _FORMS:
        for hidden, second, blocks in ((36, 0, 1), (80, 40, 3)):
            yield _unit(form, query, history, target, (hidden, second, blocks))


def _unit(
    form: Form, query: torch.Tensor, history: own.History, target: torch.Tensor, sizes: tuple[int, int, int]
) -> Timed:
    (hidden, second, blocks), width, length = sizes, query.shape[1], history.length
    last, bias = _normal(second or hidden), _normal(1)
    layer, slope, steps = _layer(form, blocks * width, hidden), _normal(hidden), _normal(hidden)
    if second:
        later = {"second": _layer(form, hidden, second), "second_kind": 2, "second_slope": _normal(second)}
        rounding = {"second_quant": steps} if form == "int8" else {}
        unit = own.Unit(layer, (0, 1, 2), last, bias, kind=2, slope=slope, **later, **rounding)
        given = {}
    else:
        unit = own.Unit(layer, (-1, -1, 0), last, bias)
        given = {"of_query": _normal(_ROWS, hidden), "of_history": _normal(1, length * hidden)}
    what = f"{hidden}-{second} units" if second else f"{hidden} units, split"
    return Timed(
        f"DIN's attention over {length} x {width}, {what}",
        "kernel",
        form,
        _ROWS,
        unit_work(_ROWS, 1, length, width, hidden, second, blocks=blocks, form=form),
        device=lambda: own.unit_attention(query, history, unit, target, **given),
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
