"""The thread that looks for newer generations of the catalog while requests run."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rankine.serving.items import Items, ServedCatalog
from rankine.serving.logs import LOGGER

__all__ = ["Refresher"]


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
        """End the thread; waits for a look that is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Take up a newer generation if there is one. What keeps it from that is logged once, until it changes."""
        try:
            if self._catalog.refresh():
                items = self._catalog.items
                self._tell(items)
                fields = {"generation": items.generation, "items": len(items)}
                LOGGER.info("catalog refreshed", extra={"fields": fields})
            self._trouble = None
        except Exception as error:  # noqa: BLE001  whatever a catalog holds: the server goes on with what it has
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                kept = {"generation": self._catalog.items.generation, "error": trouble}
                LOGGER.warning("the catalog cannot be read: what was read of it stays", extra={"fields": kept})
            self._trouble = trouble

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()
