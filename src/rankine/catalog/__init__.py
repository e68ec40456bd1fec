"""Stage 4: the item store beside the artifact."""

from rankine.catalog.snapshot import Catalog, catalog_beside, write_catalog

__all__ = ["Catalog", "catalog_beside", "write_catalog"]
