"""Numbers of devices and machines in a configuration."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from kgrec.errors import ConfigError


def num_devices(cfg: DictConfig) -> int:
    """Devices of a node.

    Raises:
        ConfigError: the devices are not a number or a list.
    """
    devices = cfg.trainer.get("devices")
    if OmegaConf.is_list(devices) and len(devices):
        return len(devices)
    text = str(devices)
    if isinstance(devices, bool) or not text.isdecimal() or int(text) < 1:
        expected = "a number of devices, or a list such as [0,1]"
        raise ConfigError(f"trainer.devices: found {devices!r}, expected {expected}")
    return int(text)


def chosen_devices(cfg: DictConfig) -> int | list[int]:
    """Devices of a node: how many, or their indices."""
    devices = cfg.trainer.get("devices")
    return list(devices) if OmegaConf.is_list(devices) else num_devices(cfg)


def num_nodes(cfg: DictConfig) -> int:
    """Machines on which one model is trained.

    Raises:
        ConfigError: the setting is not a number of machines.
    """
    nodes = cfg.trainer.get("num_nodes")
    if nodes is None:
        return 1
    if type(nodes) is not int or nodes < 1:
        raise ConfigError(f"trainer.num_nodes: found {nodes!r}, expected an integer >= 1")
    return nodes


def world_size(cfg: DictConfig) -> int:
    """Processes that train one model, each on a device of its own."""
    return num_devices(cfg) * num_nodes(cfg)


SHARDED = "kgrec.training.sharded.Sharded"  # its import would take seconds; a test compares the two


def min_rows(cfg: DictConfig) -> int | None:
    """Rows from which on a table is shared by the processes; None: every process has all tables.

    Raises:
        ConfigError: the setting is not a number of rows.
    """
    strategy = cfg.trainer.get("strategy")
    if not OmegaConf.is_dict(strategy) or strategy.get("_target_") != SHARDED:
        return None
    rows = strategy.get("min_rows", 1)
    if type(rows) is not int or rows < 1:
        raise ConfigError(f"trainer.strategy.min_rows: found {rows!r}, expected an integer >= 1")
    return rows
