"""What the command lines of benchmarks share: arguments that are checked before anything is run, readable errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rankine.artifact import Artifact
from rankine.errors import RankineError, UsageError, did_you_mean

__all__ = [
    "existing_artifact",
    "existing_file",
    "existing_folder",
    "known_names",
    "movielens_folder",
    "new_file",
    "no_arguments",
    "open_left",
    "run_script",
]

_MOVIELENS = ("ratings", "users", "movies")


def existing_folder(text: str) -> Path:
    """For ``type=`` of an argument that names a folder which something else made."""
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {folder}")
    return folder


def existing_file(text: str) -> Path:
    """For ``type=`` of an argument that names a file."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {path}")
    return path


def existing_artifact(text: str) -> Path:
    """For an argument that names an artifact."""
    folder = existing_folder(text)
    if not (folder / "manifest.json").is_file():
        raise argparse.ArgumentTypeError(f"no artifact, it has no manifest.json: {folder}")
    return folder


def movielens_folder(text: str) -> Path:
    """For an argument that names MovieLens-1M as Parquet."""
    folder = existing_folder(text)
    missing = [f"{name}.parquet" for name in _MOVIELENS if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise argparse.ArgumentTypeError(f"no MovieLens-1M as Parquet, it has no {', '.join(missing)}: {folder}")
    return folder


def known_names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """For an argument that is some of the names, separated by commas."""
    choices = tuple(known)

    def names(text: str) -> tuple[str, ...]:
        for name in (given := tuple(text.split(","))):
            if name not in choices:
                raise argparse.ArgumentTypeError(f"no '{name}' here. {did_you_mean(name, choices)}")
        return given

    return names


def new_file(text: str) -> Path:
    """For an argument that names the result file: the folder that it lies in has to be there when all is done."""
    path = Path(text)
    existing_folder(str(path.parent))
    return path


def no_arguments(description: str | None) -> None:
    """The command line of a script that takes none: ``--help`` tells what it does, and does not do it."""
    argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def open_left(folder: Path, made_by: str) -> Artifact:
    """The artifact that another benchmark left in its work folder.

    Raises:
        UsageError: it is not there.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", where=str(folder), hint=f"Make it with benchmarks/{made_by}.")
    return Artifact.open(folder)


def run_script(main: Callable[[], int | None]) -> None:
    """End the process by what ``main`` returns; an error of Rankine is told in a sentence, without a traceback."""
    try:
        sys.exit(main())
    except RankineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
