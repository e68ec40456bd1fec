"""Floors of kernels: counted by hand."""

from __future__ import annotations

import pytest

from rankine.compilation.engines.triton_lang.roofline import (
    ACCELERATORS,
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
from rankine.compilation.fused.lower import lower_graph
from unit.fused_graphs import graph_of


def test_floor_is_the_memorys_when_rows_are_few_and_the_peaks_when_they_are_many() -> None:
    gpu = ACCELERATORS["H100"]
    few, many = linear_work(1, 1024, 1024, "int8"), linear_work(100_000, 1024, 1024, "int8")
    assert few.floor_s(gpu) == pytest.approx((1024 + 1024 * 1024 + 4 * 1024) / 3.35e12)
    assert many.floor_s(gpu) == pytest.approx(max(2 * 1e5 * 1024**2 / 1978.9e12, many.bytes_moved / 3.35e12))


def test_floor_is_refused_when_a_gpu_lacks_the_form() -> None:
    with pytest.raises(KeyError):
        linear_work(1, 8, 8, "fp8").floor_s(ACCELERATORS["A100"])


def test_work_of_kernels_is_what_a_hand_counts_when_shapes_are_small() -> None:
    assert linear_work(2, 3, 5, "fp32", rows_read=2) == Work(4 * (6 + 15 + 10 + 20), {"fp32": 60})
    assert linear_work(2, 3, 5, "int8", codes_out=True, shared=1) == Work(6 + 15 + 10 + 20, {"int8": 60})
    assert cross_work(2, 4, 3, "bf16") == Work(12 * 8 + 2 * 2 * 12, {"bf16": 4 * 2 * 12})
    assert cross_work(2, 4, 3, "int8") == Work(13 * 8 + 2 * 12, {"int8": 4 * 2 * 12})
    assert interaction_work(2, 3, 4, "bf16") == Work(2 * (48 + 12), {"bf16": 2 * 2 * 3 * 4})
    assert lookup_work(10, 4, 8, 16, copied=7) == Work(10 * 24 + 4 * 32 + 7, {"fp32": 160})
    assert spread_work(5, 2, 3) == Work(4 * (5 * 4 + 6))
    assert softmax_work(6, 2, 5, 4) == Work(16 * 22, {"fp32": 4 * 6 * 5 * 4})
    assert unit_work(1, 1, 2, 3, 4) == Work(4 * (6 + 6 + 12 + 12), {"fp32": 4 * (12 + 4 + 3)})
    two = unit_work(1, 1, 2, 3, 4, 5, blocks=3, form="int8")
    assert two == Work(4 * 12 + 36 + 20, {"int8": 4 * (36 + 20), "fp32": 4 * (5 + 3)})
    assert top_work(6, 4, 2, 3) == Work(96 + 48, {"fp32": 48})


def test_work_of_a_program_counts_every_product_once_when_layers_are_fused() -> None:
    import numpy as np

    graph = graph_of(
        "a = MatMul (x, w)  b = Relu (a)  logits = MatMul (b, v)",
        {"x": 7},
        {"w": np.ones((7, 5), np.float32), "v": np.ones((5, 1), np.float32)},
    )
    work = program_work(lower_graph(graph), 10)
    assert work == Work(4 * (10 * 7 + 10 * 1 + 35 + 5), {"fp32": 2 * 10 * 40})
