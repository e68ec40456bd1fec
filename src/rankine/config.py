"""Configuration is data: frozen, typed, versioned; unknown keys are refused with a suggestion.

Every configuration class of Rankine derives from :class:`Frozen` and is read by :func:`parse` or :func:`load_yaml`,
which turn pydantic's findings into one :class:`~rankine.errors.ConfigError` that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from rankine.errors import ConfigError, did_you_mean

__all__ = ["Frozen", "dump_yaml", "load_yaml", "parse"]


class Frozen(BaseModel):
    """Base of all configuration: immutable, no unknown keys, no silent coercion of strings to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())


Config = TypeVar("Config", bound=Frozen)


def parse(kind: type[Config], values: Mapping[str, Any], *, source: str = "config") -> Config:
    """Build ``kind`` from ``values``.

    Raises:
        ConfigError: names the first wrong key as ``source: path.to.key``, and suggests the closest known one.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = [part for part in first["loc"] if not _is_union_tag(part, values)]
        where = f"{source}: {'.'.join(str(part) for part in path)}" if path else source
        if first["type"] == "extra_forbidden":
            known = _fields_at(kind, path[:-1])
            raise ConfigError("unknown key", where=where, hint=did_you_mean(str(path[-1]), known)) from None
        message = first["msg"].removeprefix("Value error, ")
        got = None if first["type"] in ("missing", "value_error") else repr(first.get("input"))
        raise ConfigError(message[:1].lower() + message[1:], where=where, got=got) from None


def load_yaml(kind: type[Config], path: Path) -> Config:
    """Read ``kind`` from a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML, not a mapping, or does not fit ``kind``.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("not readable as YAML", where=str(path), got=" ".join(str(error).split())) from None
    if not isinstance(values, dict):
        raise ConfigError("must be a mapping", where=str(path), got=type(values).__name__)
    return parse(kind, values, source=str(path))


def dump_yaml(config: Frozen) -> str:
    """``config`` as YAML that :func:`load_yaml` reads back to an equal object."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=False), sort_keys=False, width=100)


def _is_union_tag(part: object, values: Any) -> bool:
    """Pydantic puts the tag of a discriminated union into the path: it is not a key of the user's file."""
    return isinstance(part, str) and part.startswith("function-")


def _fields_at(kind: Any, path: list[Any]) -> set[str]:
    """Names of the fields of the model that lies at ``path`` below ``kind`` (the union of them for a union)."""
    models = _models_in(kind)
    for part in path:
        found: list[type[BaseModel]] = []
        for model in models:
            if isinstance(part, str) and part in model.model_fields:
                found += _models_in(model.model_fields[part].annotation)
        models = found or models
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
