"""Nodes of TensorIR, put together in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rankine.compilation.tensorir.library import tirx, tvm

__all__ = ["Expr", "Function", "Memory", "cast", "f32", "i32", "i64", "spread"]

Expr = Any
"""An expression of TensorIR; TVM has no types."""
_ENDLESS = 1 << 40
"""Elements of memory that a pointer leads to: what is really there is the caller's to know."""
_SIZES = {"float32": 4, "int32": 4, "int16": 2, "uint8": 1, "int8": 1}


def i64(value: int) -> Expr:
    return tirx.const(value, "int64")


def i32(value: int) -> Expr:
    return tirx.const(value, "int32")


def f32(value: float) -> Expr:
    return tirx.const(value, "float32")


def spread(value: Expr, lanes: int) -> Expr:
    """A number in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def cast(element: str, value: Expr, lanes: int) -> Expr:
    return tirx.Cast(element if lanes == 1 else f"{element}x{lanes}", value)


class Memory:
    """What a pointer of a function leads to, as elements of any type; nothing is known of how it is aligned."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pointer = tirx.Var(name, tvm.ir.PointerType(tvm.ir.PrimType("uint8")))
        self.views: dict[str, Any] = {}

    def load(self, element: str, index: Expr, lanes: int = 1) -> Expr:
        return tirx.BufferLoad(self._view(element), [_along(index, lanes)])

    def address(self, element: str, index: Expr) -> Expr:
        return tirx.address_of(self.load(element, index))

    def store(self, element: str, value: Expr, index: Expr, lanes: int = 1) -> Expr:
        """The statement that writes a value."""
        return tirx.BufferStore(self._view(element), value, [_along(index, lanes)])

    def _view(self, element: str) -> Any:
        if element not in self.views:
            name = f"{self.name}_{element}"
            self.views[element] = tirx.decl_buffer(
                (_ENDLESS,), element, data=self.pointer, name=name, data_alignment=_SIZES[element]
            )
        return self.views[element]


class Function:
    """A function of C: pointers, then numbers of rows. Statements are added where the innermost open block ends."""

    def __init__(self, name: str, pointers: Sequence[str]) -> None:
        self.name = name
        self.memory = {pointer: Memory(pointer) for pointer in pointers}
        self.rows = tirx.Var("rows", "int64")
        self._statements: list[Any] = []

    def __getitem__(self, pointer: str) -> Memory:
        return self.memory[pointer]

    def add(self, statement: Any) -> None:
        self._statements.append(statement)

    def bind(self, value: Expr, name: str = "x") -> Expr:
        """A value under a name: it is computed once, and lives in a register."""
        variable = tirx.Var(name, value.ty)
        self.add(tirx.Bind(variable, value))
        return variable

    def store(self, memory: Memory, element: str, value: Expr, index: Expr, lanes: int = 1) -> None:
        self.add(memory.store(element, value, index, lanes))

    def call(self, name: str, *arguments: Expr) -> None:
        self.add(tirx.Evaluate(tirx.call_extern("void", name, *arguments)))

    def instruction(self, name: str, *arguments: Expr) -> None:
        """An instruction without a result, by LLVM's name for it."""
        self.add(tirx.Evaluate(tirx.call_llvm_intrin("void", name, *arguments)))

    def variable(self, element: str, first: Expr) -> Variable:
        """A variable that loops change."""
        return Variable(self, element, first)

    @contextmanager
    def loop(self, count: Expr, *, vectorized: bool = False, name: str = "i") -> Iterator[Expr]:
        """The statements that are added inside run ``count`` times."""
        number = tirx.Var(name, "int64")
        kind = tirx.ForKind.VECTORIZED if vectorized else tirx.ForKind.SERIAL
        count = i64(count) if isinstance(count, int) else count
        with self._nested() as inner:
            yield number
        if inner:
            self.add(tirx.For(number, i64(0), count, kind, _sequence(inner)))

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        with self._nested() as inner:
            yield
        if inner:
            self.add(tirx.IfThenElse(condition, _sequence(inner), None))

    def finished(self) -> Any:
        """The function as TVM has it."""
        views = [tirx.DeclBuffer(view, data=one.pointer) for one in self.memory.values() for view in one.views.values()]
        pointers = [one.pointer for one in self.memory.values()]
        body = _sequence([*views, *self._statements])
        return tirx.PrimFunc([*pointers, self.rows], body).with_attr("global_symbol", self.name)

    @contextmanager
    def _nested(self) -> Iterator[list[Any]]:
        outer, self._statements = self._statements, []
        inner = self._statements
        try:
            yield inner
        finally:
            self._statements = outer


class Variable:
    """A scalar or a vector that lives in a register across the iterations of a loop.

    TVM has no loop-carried values: it is memory of one element, which LLVM keeps in a register. That takes the
    annotation, without which TVM allocates it on the heap, where no compiler finds it again.
    """

    def __init__(self, function: Function, element: str, first: Expr) -> None:
        self._function = function
        self._buffer = tirx.decl_buffer((1,), element, name="held", scope="local")
        on_stack = {"disable_lower_builtin": tirx.const(1, "bool")}
        function.add(tirx.AllocBuffer(self._buffer, on_stack))
        self.set(first)

    @property
    def value(self) -> Expr:
        return tirx.BufferLoad(self._buffer, [0])

    def set(self, value: Expr) -> None:
        self._function.add(tirx.BufferStore(self._buffer, value, [0]))


def _along(index: Expr, lanes: int) -> Expr:
    index = i64(index) if isinstance(index, int) else index
    return index if lanes == 1 else tirx.Ramp(index, i64(1), lanes)


def _sequence(statements: Sequence[Any]) -> Any:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))
