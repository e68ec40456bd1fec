"""Reference models, one short file each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rankine.config import Frozen
from rankine.registry import Registry

if TYPE_CHECKING:
    from rankine.models.schema import Schema
    from rankine.models.zoo.base import RankingModel

__all__ = ["ARCHITECTURES", "build_model"]

ARCHITECTURES: Registry[str] = Registry("architecture")
"""``module:configuration:model`` of each, imported when asked for."""
ARCHITECTURES.register("dcn_v2")("rankine.models.zoo.dcn_v2:DcnV2Config:DcnV2")
ARCHITECTURES.register("deepfm")("rankine.models.zoo.deepfm:DeepFMConfig:DeepFM")
ARCHITECTURES.register("din")("rankine.models.zoo.din:DinConfig:Din")
ARCHITECTURES.register("dlrm")("rankine.models.zoo.dlrm:DlrmConfig:Dlrm")
ARCHITECTURES.register("mmoe")("rankine.models.zoo.mmoe:MmoeConfig:Mmoe")
ARCHITECTURES.register("wide_deep")("rankine.models.zoo.wide_deep:WideDeepConfig:WideDeep")


def build_model(schema: Schema, table_rows: Mapping[str, int], config: Mapping[str, object]) -> RankingModel:
    """A freshly initialized reference model; ``config["architecture"]`` says which.

    Raises:
        UsageError: unknown architecture.
        ConfigError: a key of ``config`` is unknown or wrong, or the schema lacks a feature that the model needs.
    """
    from importlib import import_module

    from rankine.config import parse

    module_name, config_name, model_name = ARCHITECTURES[str(config.get("architecture", "dcn_v2"))].split(":")
    module = import_module(module_name)
    settings: Frozen = parse(getattr(module, config_name), config, source="model")
    model: RankingModel = getattr(module, model_name)(schema, table_rows, settings)
    return model
