"""Schedules for linear layers: exact on every instruction set of this machine, and made of the instructions meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from engine.installed import installed_engine
from engine.tvm_kernels import Layers, Shape, functions_of
from rankine.compilation.tensorir import instruction_sets
from rankine.compilation.tensorir.instruction_sets import INSTRUCTION_SETS, InstructionSet, chosen, runs_here
from rankine.errors import EngineError

pytestmark = pytest.mark.engine

SHAPES = [
    Shape(inner, width, integer, full)
    for integer in (True, False)
    for inner, width, full in ((37, 70, True), (128, 64, False), (5, 1, True), (66, 33, False))
]
"""Whole panels and not, one column, products that are no multiple of what one instruction adds."""
ROWS = (1, 2, 3, 4, 5, 6, 7, 13, 16, 17, 33, 48)

DOTS = {
    "amx-int8": r"tdpbusd\s+%tmm",
    "avx512-vnni": r"vpdpbusd\s.*%zmm",
    "avx512": r"vpmaddwd\s.*%zmm",
    "avx2-vnni": r"vpdpbusd\s.*%ymm",
    "avx2": r"vpmaddwd\s.*%ymm",
    "generic-x86": r"\spm(ul|add)\w+\s.*%xmm",
    "neon-i8mm": r"usdot\s+v",
    "neon-dotprod": r"\ssdot\s+v",
    "generic-arm": r"[mu]l\w*\s+v",
}
"""By instruction set, the instruction of its integer products."""
PRODUCTS = {16: r"vfmadd\d+ps\s.*%zmm", 8: r"vfmadd\d+ps\s.*%ymm", 4: r"mulps\s.*%xmm"}
"""By the lanes of x86's registers, the instruction of products of float32."""
SPILLS = r"%[xyz]mm\d+, -?\d*\(%rsp\)|st[rp]\s+q\d+.*\[sp"

Compiled = Callable[[str], Layers]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """All shapes for an instruction set, compiled once; skips what this machine does not run."""
    installed_engine("tvm")

    @cache
    def compiled_for(name: str) -> Layers:
        machine = chosen(name)
        if not runs_here(machine):
            pytest.skip(f"this processor has no {name}")
        return Layers(SHAPES, machine, tmp_path_factory.mktemp(name))

    return compiled_for


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> InstructionSet:
    installed_engine("tvm")
    return chosen(request.param)


@pytest.mark.parametrize("name", [one.name for one in INSTRUCTION_SETS])
def test_integer_layers_are_exact_when_rows_and_columns_are_left_over(compiled: Compiled, name: str) -> None:
    for shape in SHAPES:
        for rows in ROWS if shape.integer else ():
            found, codes, expected, wanted = compiled(name).run(shape, rows, seed=rows)
            np.testing.assert_array_equal(found, expected, f"{shape}, {rows} rows")
            if shape.full:
                np.testing.assert_array_equal(codes, wanted, f"{shape}, {rows} rows")


@pytest.mark.parametrize("name", [one.name for one in INSTRUCTION_SETS])
def test_float_layers_are_within_rounding_when_rows_and_columns_are_left_over(compiled: Compiled, name: str) -> None:
    for shape in SHAPES:
        for rows in () if shape.integer else ROWS:
            found, _, expected, _ = compiled(name).run(shape, rows, seed=rows)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4, err_msg=f"{shape}, {rows} rows")


@pytest.mark.parametrize("machine", DOTS, indirect=True)
def test_integer_products_are_the_instruction_meant_when_compiled_for_a_target(machine: InstructionSet) -> None:
    from rankine.compilation.tensorir.compile import assembly

    layer = Shape(128, 64, integer=True, full=False)
    found = assembly(functions_of([layer], machine), machine)
    assert re.search(DOTS[machine.name], found)
    better = DOTS.keys() - {machine.name, "amx-int8", "generic-x86", "generic-arm"}
    own = {other for other in better if DOTS[other] == DOTS[machine.name]}
    others = {other for other in better - own if re.search(DOTS[other], found)}
    assert others <= ({"avx512-vnni"} if machine.tiles else set())
    if machine.dot != "multiply":  # which takes registers of its own
        assert not re.search(SPILLS, _inner_loops(found, DOTS[machine.name])), "sums leave their registers"


@pytest.mark.parametrize("machine", DOTS, indirect=True)
def test_float_products_are_fused_in_registers_when_compiled_for_a_target(machine: InstructionSet) -> None:
    from rankine.compilation.tensorir.compile import assembly

    found = assembly(functions_of([Shape(128, 64, integer=False, full=False)], machine), machine)
    product = r"fmla\s+v" if machine.architecture == "aarch64" else PRODUCTS[machine.lanes]
    assert not re.search(SPILLS, _inner_loops(found, product)), "sums leave their registers"


def _inner_loops(text: str, instruction: str) -> str:
    """The runs of instructions without a jump target in which there is more than one of these."""
    blocks = [block for block in re.split(r"^\.LBB\w+:", text, flags=re.M) if len(re.findall(instruction, block)) > 1]
    assert blocks, f"no {instruction}"
    return "".join(blocks)


_AVX2 = {"avx2", "fma"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", _AVX512 | {"avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"}, "amx-int8"),
        ("x86_64", _AVX512 | {"avx512_vnni"}, "avx512-vnni"),
        ("x86_64", _AVX512, "avx512"),
        ("x86_64", _AVX2 | {"avx_vnni"}, "avx2-vnni"),
        ("x86_64", _AVX2, "avx2"),
        ("x86_64", {"sse2"}, "generic-x86"),
        ("aarch64", {"asimd", "asimddp", "i8mm"}, "neon-i8mm"),
        ("aarch64", {"asimd", "asimddp"}, "neon-dotprod"),
        ("aarch64", {"asimd"}, "generic-arm"),
    ],
)
def test_the_schedule_is_the_best_one_when_the_processor_says_what_it_has(
    monkeypatch: pytest.MonkeyPatch, architecture: str, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(instruction_sets, "_architecture", lambda: architecture)
    monkeypatch.setattr(instruction_sets, "_flags", lambda: frozenset(flags))
    monkeypatch.setattr(instruction_sets, "may_use_tiles", lambda: True)
    assert chosen("native").name == expected


def test_the_schedule_is_vnni_when_the_system_gives_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "_architecture", lambda: "x86_64")
    monkeypatch.setattr(
        instruction_sets, "_flags", lambda: frozenset(_AVX512 | {"avx512_vnni", "amx_tile", "amx_int8"})
    )
    monkeypatch.setattr(instruction_sets, "may_use_tiles", lambda: False)
    assert chosen("native").name == "avx512-vnni"


def test_an_instruction_set_is_refused_with_a_suggestion_when_it_is_unknown() -> None:
    with pytest.raises(EngineError, match="avx512-vnni"):
        chosen("avx512-vnny")


def test_no_processor_is_guessed_when_the_architecture_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "_architecture", lambda: "riscv64")
    with pytest.raises(EngineError, match="no schedules"):
        chosen("native")
