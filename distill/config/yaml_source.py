"""How Hydra reads the files of config folders: names of earlier versions are replaced."""

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from distill.config import legacy
from distill.core.errors import UserError


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's source of the same name, with :mod:`distill.config.legacy` applied to each file.

    Overrides refer to the new names, so the old ones must be gone before Hydra merges anything.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file; one that was renamed is found by its old name."""
        if not super().is_config(config_path) and self.is_config(config_path):
            legacy.note_file(config_path)
            config_path = legacy.update_file(config_path)
        result = super().load_config(config_path)
        # Hydra acts on it while it composes, so that it cannot be checked afterwards.
        if isinstance(result.config, DictConfig):
            node = result.config.get("hydra") if "hydra" in result.config else None
            if isinstance(node, DictConfig) and node.get("searchpath"):
                raise UserError(
                    f"{config_path}: hydra.searchpath stands in a file: it counts only on the "
                    "command line"
                )
        if isinstance(result.config, DictConfig):
            result.config = legacy.update_config(result.config)
        return result

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file, by its present or its old name."""
        return super().is_config(config_path) or super().is_config(legacy.update_file(config_path))


def register_yaml_source() -> None:
    """Have Hydra read files by this class in this process and those that a launcher starts."""
    Plugins.instance()  # registers Hydra's own, which would not be replaced afterwards
    SourcesRegistry.instance().types["file"] = FileConfigSource
