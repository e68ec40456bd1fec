"""The thread that looks for newer generations of the catalog while requests run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rankine.serving.items import Items, ServedCatalog
from rankine.serving.logs import LOGGER

__all__ = ["Refresher"]


class _Closing(Exception):
    """The refresher is closed: what is under way is given up."""


class Refresher:
    """Refreshes a catalog again and again, in a thread of its own: neither requests nor the event loop wait for it.

    Args:
        catalog: nobody else refreshes it.
        every_s: pause between two looks, above 0.
        tell: called with the items of each newer generation.
    """

    def __init__(self, catalog: ServedCatalog, every_s: float, tell: Callable[[Items], None]) -> None:
        self._catalog, self._every_s, self._tell = catalog, every_s, tell
        self._stop = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="rankine-catalog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; a look that is under way is given up at its next piece of items."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Take up a newer generation if there is one. What keeps it from that is logged once, until it changes."""
        try:
            if self._catalog.refresh(self._go_on):
                items = self._catalog.items
                self._tell(items)
                fields = {"generation": items.generation, "items": len(items)}
                LOGGER.info("catalog refreshed", extra={"fields": fields})
            self._trouble = None
        except _Closing:
            LOGGER.info("a refresh of the catalog was given up: the server leaves")
        except Exception as error:  # noqa: BLE001  whatever a catalog holds: the server goes on with what it has
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                kept = {"generation": self._catalog.items.generation, "error": trouble}
                LOGGER.warning("the catalog cannot be read: what was read of it stays", extra={"fields": kept})
            self._trouble = trouble

    def _go_on(self, done: int, detail: str) -> None:
        """Between two pieces of items that are completed."""
        if self._stop.is_set():
            raise _Closing

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()
