"""The floor of a kernel: what its bytes take at a GPU's bandwidth, or its operations at its peak, whichever is longer.

(Williams, Waterman and Patterson: Roofline. CACM 52(4), 2009.) Bytes are those that have to pass at least once: what is
read, what is written, and weights once. Whoever is near the floor has nothing left to win but a smaller model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankine.compilation.fused.program import Code, Operation, Program

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Work",
    "cross_work",
    "interaction_work",
    "linear_work",
    "lookup_work",
    "program_work",
    "softmax_work",
    "spread_work",
    "top_work",
    "unit_work",
]

_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1, "int8": 1}


@dataclass(frozen=True)
class Accelerator:
    """A GPU by its maker's figures, dense (without structured sparsity).

    Attributes:
        bytes_per_s: of its memory.
        peak: operations a second by form of a product's two sides; a multiply-add is two.
        source: where the figures are from.
    """

    name: str
    bytes_per_s: float
    peak: Mapping[str, float]
    source: str


_HOPPER = {"fp32": 67e12, "bf16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12}
ACCELERATORS: Mapping[str, Accelerator] = {
    "A100": Accelerator(
        "A100 SXM 80 GB",
        2.039e12,
        {"fp32": 19.5e12, "bf16": 312e12, "int8": 624e12},
        "NVIDIA A100 Tensor Core GPU datasheet",
    ),
    "H100": Accelerator("H100 SXM", 3.35e12, _HOPPER, "NVIDIA H100 Tensor Core GPU datasheet and Hopper whitepaper"),
    "H200": Accelerator("H200 SXM", 4.8e12, _HOPPER, "NVIDIA H200 Tensor Core GPU datasheet"),
}
"""Those that benchmarks know. FP32 is what its products are computed in: no TF32."""


@dataclass(frozen=True)
class Work:
    """What has to be done at least.

    Attributes:
        bytes_moved: to and from memory.
        operations: by form of the product's sides.
    """

    bytes_moved: float = 0.0
    operations: Mapping[str, float] = field(default_factory=dict)

    def floor_s(self, gpu: Accelerator) -> float:
        """Seconds that it takes at least.

        Raises:
            KeyError: the GPU does not multiply in one of the forms.
        """
        computing = sum(count / gpu.peak[form] for form, count in self.operations.items())
        return max(self.bytes_moved / gpu.bytes_per_s, computing)


def linear_work(
    rows: int, inner: int, width: int, form: str, *, rows_read: int = 0, codes_out: bool = False, shared: int = 0
) -> Work:
    """A layer and what follows it.

    Args:
        rows_read: operands of ``(rows, N)`` that follow: addend, factor, added.
        codes_out: whether it writes codes and no numbers.
        shared: requests whose addends ``(requests, N)`` rows share.
    """
    source = 1 if form == "int8" else 4
    moved = rows * inner * source + inner * width * _BYTES[form] + rows * width * (1 if codes_out else 4)
    return Work(moved + 4.0 * (rows * rows_read + shared) * width, {form: 2.0 * rows * inner * width})


def cross_work(rows: int, width: int, rank: int, form: str) -> Work:
    """A low-rank cross layer: two operands are read, of codes these too, and one is written."""
    read = 9.0 if form == "int8" else 8.0
    moved = (4.0 + read) * rows * width + 2.0 * width * rank * _BYTES[form]
    return Work(moved, {form: 4.0 * rows * width * rank})


def interaction_work(rows: int, count: int, width: int, form: str = "fp32") -> Work:
    """Products of pairs, each once; vectors are read in float32."""
    pairs = count * (count - 1) / 2
    return Work(4.0 * rows * (count * width + pairs), {form: 2.0 * rows * pairs * width})


def lookup_work(values: int, rows: int, dim: int, row_bytes: float, *, copied: float = 0.0) -> Work:
    """Rows of ``row_bytes``, scale and bias included, found by entries, and pooled to ``rows`` of ``dim`` numbers.

    Args:
        copied: bytes of rows that are not in the device's memory and come with the call.
    """
    moved = values * (8.0 + row_bytes) + rows * 4.0 * dim + copied
    return Work(moved, {"fp32": 2.0 * values * dim})


def spread_work(rows: int, requests: int, width: int) -> Work:
    """What requests have, written to every row."""
    return Work(4.0 * (rows * (width + 1) + requests * width))


def softmax_work(rows: int, requests: int, length: int, width: int) -> Work:
    """Attention over histories that the rows of a request share."""
    return Work(4.0 * width * (2 * rows + requests * length), {"fp32": 4.0 * rows * length * width})


def unit_work(
    rows: int,
    requests: int,
    length: int,
    width: int,
    hidden: int,
    second: int = 0,
    *,
    blocks: int = 1,
    form: str = "fp32",
) -> Work:
    """DIN's activation unit over shared histories.

    Args:
        blocks: how many of the history, its differences from the query and its products with it the first layer reads;
            of one, the others' parts are added to it.
    """
    added = 4.0 * (rows * hidden + requests * length * hidden) if blocks == 1 else 0.0
    inner = blocks * width
    moved = 4.0 * (2 * rows * width + requests * length * width) + added
    moved += _BYTES[form] * (inner * hidden + hidden * second)
    layers = 2.0 * rows * length * (inner * hidden + hidden * second)
    sums = 2.0 * rows * length * ((second or hidden) + width)
    operations = {form: layers}
    operations["fp32"] = operations.get("fp32", 0.0) + sums
    return Work(moved, operations)


def top_work(rows: int, inner: int, requests: int, count: int) -> Work:
    """The last layer, and the best of each request."""
    return Work(4.0 * rows * inner + 8.0 * requests * count, {"fp32": 2.0 * rows * inner})


def program_work(program: Program, rows: int, form: str = "fp32") -> Work:
    """A whole program in one kernel that would keep everything on the chip: inputs, weights and logits pass once.

    Args:
        form: of products in floats.
    """
    moved = 4.0 * rows * program.tasks
    moved += sum(rows * slot.width * slot.element.size_bytes for slot in program.inputs)
    operations: dict[str, float] = {}
    for operation in program.operations:
        own, count, weights = _products(operation, form)
        operations[own] = operations.get(own, 0.0) + rows * count
        moved += weights
    return Work(moved, {own: count for own, count in operations.items() if count})


def _products(operation: Operation, form: str) -> tuple[str, float, float]:
    """Form, operations a row, and bytes of weights."""
    match operation.code:
        case Code.LINEAR_F32 | Code.LINEAR_I8:
            inner, width = operation.dims[:2]
            own = "int8" if operation.code is Code.LINEAR_I8 else form
            return own, 2.0 * operation.groups * inner * width, inner * width * _BYTES[own]
        case Code.MATMUL:
            batch, height, inner, width = operation.dims
            return "fp32", 2.0 * batch * height * inner * width, 0.0
        case Code.DOT:
            return "fp32", 2.0 * operation.dims[0] * operation.dims[1], 0.0
        case _:
            return "fp32", 0.0, 0.0
