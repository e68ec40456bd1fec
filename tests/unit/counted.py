"""How often functions are called while they do what they always do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest


@contextmanager
def counted(*names: str) -> Iterator[Counter[str]]:
    """Calls of each function, by the name under which its caller finds it: ``package.module.function``."""
    calls: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            module, _, function = name.rpartition(".")
            patch.setattr(name, _counting(getattr(import_module(module), function), name, calls))
        yield calls


def _counting(compute: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    def count(*given: Any, **named: Any) -> Any:
        calls[name] += 1
        return compute(*given, **named)

    return count
