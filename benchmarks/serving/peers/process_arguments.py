"""The command line of peers' processes: which model, and where to listen."""

from __future__ import annotations

import argparse
from pathlib import Path

from serving.ranker import Ranker


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """With what every peer is told; each adds its own settings."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("artifact", "catalog"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("variant", "engine"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    return parser


def ranker_of(given: argparse.Namespace) -> Ranker:
    """The model that the command line names."""
    return Ranker(given.artifact, given.catalog, given.variant, given.engine)
