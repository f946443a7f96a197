"""Compose configs: what Hydra needs to know about this program, and composition without it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from omegaconf import DictConfig, open_dict

from distill.config import legacy
from distill.config.quoting import quote_overrides
from distill.config.resolvers import conf_dir, register_resolvers
from distill.config.trust import hydra_node_checked
from distill.config.yaml_source import register_yaml_source

HYDRA_VERSION = "1.3"


def set_up_hydra() -> None:
    """Register the interpolations of conf/ and the replacement of old names; repeatable."""
    register_resolvers()
    register_yaml_source()


def compose_run(overrides: Sequence[str], config_name: str = "config") -> tuple[DictConfig, Path]:
    """Compose the config of a single run, as the commands do.

    Hydra's global state is the same afterwards as before.

    Args:
        overrides: As on the command line.
        config_name: Of the primary config, ``config`` for ``distill``.

    Returns:
        The config without its node ``hydra``, and the run's folder, which is not created.
    """
    with _own_hydra_state():
        set_up_hydra()
        with initialize_config_dir(conf_dir(), version_base=HYDRA_VERSION):
            given = quote_overrides(legacy.update_overrides(overrides))
            with hydra_node_checked():
                config = compose(config_name, given, return_hydra_config=True)
        folder = Path(config.hydra.run.dir).absolute()
        with open_dict(config):
            del config["hydra"]
        config.overrides = given
    return legacy.update_config(config), folder


@contextmanager
def _own_hydra_state() -> Iterator[None]:
    """Put Hydra's global state aside, which may be that of a program around this one."""
    outer = Singleton._instances
    # The store is filled when modules are imported, which happens once.
    Singleton._instances = {key: value for key, value in outer.items() if key is ConfigStore}
    try:
        yield
    finally:
        Singleton._instances = outer
