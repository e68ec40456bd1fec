"""Options that the benchmarks of serving share, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path


def serving_parser(description: str | None, out: Path) -> argparse.ArgumentParser:
    """A parser with the options that all of them have.

    Args:
        out: where results go unless another file is given.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=resolved, required=True, help="folder for the models, built there once, and for logs"
    )
    parser.add_argument(
        "--compressed", type=Path, help="MovieLens-1M artifact of compression.py, to build the small model"
    )
    parser.add_argument("--data-root", type=Path, default=Path("../shared/data"), help="folder with ml-1m")
    parser.add_argument("--server-cores", type=cores, default=(0,))
    parser.add_argument("--generator-cores", type=cores, default=(1,))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=out)
    return parser


def names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Some of ``known``, with commas between."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return found

    return read


def resolved(text: str) -> Path:
    """A path from the root: servers run in folders of their own."""
    return Path(text).resolve()


def cores(text: str) -> tuple[int, ...]:
    """Numbers with commas between."""
    return tuple(int(part) for part in text.split(","))
