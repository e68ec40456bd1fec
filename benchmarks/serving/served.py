"""A model as servers get it; `models.py`, which builds it, needs far more to be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Name = Literal["big", "small"]
ENGINE = "native"


@dataclass(frozen=True)
class Served:
    """A model as servers get it, and whom and what they can be asked for.

    Attributes:
        users: raw request features, one mapping a user.
        item_ids: int64 ``(items,)``, those of the catalog.
    """

    name: Name
    artifact: Path
    catalog: Path
    variant: str
    users: Sequence[Mapping[str, Any]]
    item_ids: NDArray[np.int64]
