"""Experiments as YAML files: the schema, and loading with errors one can act on."""

from segkit.config.load import dump_config, load_config, parse_config
from segkit.config.resolve import locate_card, move_data
from segkit.config.run import load_run
from segkit.config.schema import Config, DataConfig, ModelConfig, TrainConfig

__all__ = [
    "Config",
    "DataConfig",
    "ModelConfig",
    "TrainConfig",
    "dump_config",
    "load_config",
    "load_run",
    "locate_card",
    "move_data",
    "parse_config",
]
