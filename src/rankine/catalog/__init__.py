"""Stage 4: the item store beside the artifact: a snapshot, and a log of what changed since."""

from rankine.catalog.catalog import Catalog, build_catalog, catalog_beside, write_catalog
from rankine.catalog.derive import DerivedKey, Deriver
from rankine.catalog.prepare import Preparer
from rankine.catalog.reader import CatalogReader
from rankine.catalog.view import View
from rankine.catalog.writer import CatalogWriter

__all__ = [
    "Catalog",
    "CatalogReader",
    "CatalogWriter",
    "DerivedKey",
    "Deriver",
    "Preparer",
    "View",
    "build_catalog",
    "catalog_beside",
    "write_catalog",
]
