"""``module:function`` -> the ``nn.Module`` that the function returns."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rankine.errors import did_you_mean
from rankine.models.intake.refusal import ModelError, first_line, user_line

if TYPE_CHECKING:
    from torch import nn

__all__ = ["is_reference", "resolve"]


def is_reference(text: str) -> bool:
    """Whether ``text`` looks like ``module:function``, and not like a path."""
    module, colon, function = text.partition(":")
    dotted = [*module.split("."), *function.split(".")]
    return bool(colon) and all(part.isidentifier() for part in dotted)


def resolve(reference: str) -> nn.Module:
    """Import the module and call the function without arguments.

    Modules of the current directory are found as well as installed ones. The function returns the trained module; a
    module object, or a class that needs no arguments, will do too.

    Raises:
        ModelError: there is no such module or name, the user's code raises, or what it returns is no ``nn.Module``.
    """
    from torch import nn

    if not is_reference(reference):
        raise ModelError("is no reference to a model", got=reference, allowed="module:function, such as my_model:build")
    module_name, _, name = reference.partition(":")
    with _current_directory_importable():
        found = _attribute(_import(module_name, reference), name, reference)
        if isinstance(found, nn.Module):
            return found
        if not callable(found):
            got = type(found).__name__
            raise ModelError("is neither a function nor an nn.Module", where=reference, got=got)
        try:
            made = found()
        except Exception as error:
            where = user_line(error.__traceback__) or reference
            hint = "The function is called without arguments and must return the trained module."
            raise ModelError(f"{reference} failed", where=where, got=first_line(error), hint=hint) from error
    if not isinstance(made, nn.Module):
        got = type(made).__name__
        hint = "Return the module itself, with its weights loaded."
        raise ModelError("does not return a module", where=reference, got=got, allowed="nn.Module", hint=hint)
    return made


def _import(name: str, reference: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            here = sorted(path.stem for path in Path.cwd().glob("*.py"))
            hint = did_you_mean(name, here) or "Run it from the folder that holds the module, or install the package."
            raise ModelError("no such module", where=reference, got=name, hint=hint) from None
        hint = f"Install what the module imports: '{error.name}' is missing."
        raise ModelError("cannot be imported", where=reference, got=first_line(error), hint=hint) from error
    except Exception as error:
        where = user_line(error.__traceback__) or reference
        raise ModelError(f"the module of {reference} cannot be imported", where=where, got=first_line(error)) from error


def _attribute(module: object, name: str, reference: str) -> object:
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [other for other in dir(found) if not other.startswith("_")]
            raise ModelError(f"has no '{part}'", where=reference, hint=did_you_mean(part, known))
        found = getattr(found, part)
    return found


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
