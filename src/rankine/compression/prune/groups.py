"""What can be taken out of a graph, by kind."""

from __future__ import annotations

from collections.abc import Sequence

from rankine.compression.prune.labels import Atom
from rankine.compression.prune.trace import Trace
from rankine.compression.recipe import Prunable

__all__ = ["groups_of", "kind_of"]


def groups_of(found: Trace, what: Sequence[Prunable]) -> list[int]:
    """The roots of the groups of these kinds, ascending."""
    return sorted(root for root, atoms in found.labels.groups().items() if kind_of(atoms) in what)


def kind_of(atoms: Sequence[Atom]) -> Prunable:
    """The kind of a group. Columns of tables that go together with neurons are dimensions."""
    kinds = {atom.kind for atom in atoms}
    return "fields" if "field" in kinds else "dimensions" if "dimension" in kinds else "neurons"
