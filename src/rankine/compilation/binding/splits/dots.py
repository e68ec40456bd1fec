"""Dot products of all pairs of vectors, as in DLRM: in blocks by when the two vectors are known.

``X X^T`` of ``X = [R; I; C]``: ``R R^T`` is known once a request, ``I I^T`` with the catalog, and ``R I^T`` and what
holds a vector of ``C`` once a row. A product is the same with its vectors exchanged: each block is computed once.
"""

from __future__ import annotations

import numpy as np
import onnx

from rankine.compilation.binding.forms import Form, Term
from rankine.compilation.binding.lattice import Binding
from rankine.compilation.binding.splits.spreader import Spreader

__all__ = ["pairwise"]


def pairwise(node: onnx.NodeProto, spreader: Spreader) -> Form | None:
    """``Reshape(MatMul(X, Transpose(X)), [-1, n * n])`` of ``X (rows, n, dim)``."""
    maker = spreader.emitter.producers.get(node.input[0])
    if maker is None or maker.op_type != "MatMul" or len(spreader.shape) != 2:
        return None
    form = spreader.form(maker.input[0])
    if not _is_transposed(maker.input[0], maker.input[1], spreader) or form.axis != 1 or not form.is_disjoint:
        return None
    if len(form.shape) != 3 or spreader.shape[1] != form.length**2:
        return None
    blocks = [
        _block(one, other, form, spreader)
        for at, one in enumerate(form.terms)
        for other in form.terms[at:]
        if Binding.CANDIDATE not in (spreader.binding(one), spreader.binding(other))
    ]
    late = [term for term in form.terms if spreader.binding(term) is Binding.CANDIDATE]
    blocks += [_against_all(term, late[:at], maker.input[1], form, spreader) for at, term in enumerate(late)]
    return Form(spreader.shape, 1, tuple(blocks))


def _is_transposed(name: str, other: str, spreader: Spreader) -> bool:
    maker = spreader.emitter.producers.get(other)
    if maker is None or maker.op_type != "Transpose" or maker.input[0] != name:
        return False
    order = next((list(entry.ints) for entry in maker.attribute if entry.name == "perm"), None)
    return order in (None, [0, 2, 1]) and len(spreader.emitter.shape(name)) == 3 and order is not None


def _block(one: Term, other: Term, form: Form, spreader: Spreader) -> Term:
    """Products of the vectors of two terms."""
    turned = spreader.emit("Transpose", [other.value], {"perm": [0, 2, 1]})
    rows, columns = _by_source(one, spreader), _by_source(other, spreader)
    return _flattened(spreader.emit("MatMul", [one.value, turned]), rows, columns, form, spreader)


def _against_all(term: Term, before: list[Term], turned: str, form: Form, spreader: Spreader) -> Term:
    """Products of a term's vectors with all vectors."""
    rows, columns = _by_source(term, spreader), np.arange(form.length)
    known = {int(place) for one in before for place in one.places[1]}
    kept = np.array([place for place in columns if int(place) not in known])
    if known:
        turned = spreader.emit("Gather", [turned, spreader.emitter.constant(kept, np.int64)], {"axis": 2})
    return _flattened(spreader.emit("MatMul", [term.value, turned]), rows, kept, form, spreader)


def _by_source(term: Term, spreader: Spreader) -> np.ndarray:
    """Where each place of a term's value goes to; -1 for one that is not used."""
    length = spreader.emitter.shape(term.value)[1]
    found = np.full(length if isinstance(length, int) else 0, -1)
    source, positions = term.places
    found[source] = positions
    return found


def _flattened(product: str, rows: np.ndarray, columns: np.ndarray, form: Form, spreader: Spreader) -> Term:
    """A block as a term of the flattened products: at ``(i, j)`` and at ``(j, i)``, each position once."""
    taken: dict[int, int] = {}
    for at, (i, j) in enumerate((int(i), int(j)) for i in rows for j in columns):
        if min(i, j) >= 0:
            taken.setdefault(i * form.length + j, at)
            taken.setdefault(j * form.length + i, at)
    target = spreader.emitter.constant([-1, len(rows) * len(columns)], np.int64)
    flat = spreader.emit("Reshape", [product, target])
    return Term(flat, source=np.array(list(taken.values())), positions=np.array(list(taken)))
