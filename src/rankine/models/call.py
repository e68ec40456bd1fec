"""How a model from elsewhere is called: which of its arguments holds which feature, and in what form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rankine.config import Frozen

__all__ = ["Argument", "Call", "PackedColumn"]

Form = Literal["value", "column", "flat", "values", "offsets", "ends", "weights", "padded", "length", "mask", "packed"]


class PackedColumn(Frozen):
    """Columns of a packed matrix that hold one feature, in the matrix' order.

    A categorical feature takes one column, a dense one ``width``, a sequence ``max_length``; ``length`` takes one, with
    the number of values of a sequence that are not padding.
    """

    feature: str
    part: Literal["value", "length"] = "value"
    pad: int = Field(default=0, description="id that fills a sequence up to its max_length, after its values")


class Argument(Frozen):
    """One argument of the model, or one input of an ONNX graph.

    Attributes:
        name: of the parameter; for ONNX of the graph's input.
        form: ``value``: ids ``(rows,)`` of a categorical feature, or numbers ``(rows, width)`` of a dense one;
            ``column``: the ids as ``(rows, 1)``; ``flat``: one number a row as ``(rows,)``. ``values``, ``offsets``,
            ``weights``: the parts of a multi-hot feature as ``EmbeddingBag`` takes them, ``offsets`` as ``(rows,)``
            starts, ``ends`` as ``(rows + 1,)`` with the last end. ``padded``: ids ``(rows, max_length)`` of a
            sequence, ``pad`` after its values; ``length``: its number of values ``(rows,)``; ``mask``:
            ``(rows, max_length)``, true where there is a value.
            ``packed``: a matrix ``(rows, columns)`` of several features.
        dtype: in which the model expects it.
    """

    name: str
    form: Form = "value"
    feature: str | None = Field(default=None, description="the feature it holds; left out for packed")
    columns: tuple[PackedColumn, ...] = ()
    pad: int = Field(default=0, description="id that fills a padded sequence")
    dtype: Literal["int32", "int64", "float32", "bool"] = "int64"

    @model_validator(mode="after")
    def _packed_has_columns(self) -> Argument:
        if (self.form == "packed") != bool(self.columns):
            raise ValueError(f"argument '{self.name}': 'columns' are needed for form packed, and for no other")
        if (self.form == "packed") == (self.feature is not None):
            raise ValueError(f"argument '{self.name}': 'feature' is needed for every form but packed")
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it holds."""
        return tuple(column.feature for column in self.columns) if self.feature is None else (self.feature,)


class Call(Frozen):
    """Arguments in the order in which the model takes them; ``style`` says how they are handed over."""

    style: Literal["positional", "keyword", "dict"] = "positional"
    arguments: tuple[Argument, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _arguments_are_distinct(self) -> Call:
        names = [argument.name for argument in self.arguments]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"argument '{name}' is given twice: one that holds several features is 'packed'")
        return self
