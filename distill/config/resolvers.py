"""The folder of config files, and the interpolations that they use."""

from pathlib import Path

import platformdirs
from omegaconf import OmegaConf

from distill.config import naming
from distill.config.environment import forget_environment, watch_environment

PACKAGE = Path(__file__).parent.parent


def conf_dir() -> str:
    """Return the absolute path of conf/: the checkout's, or the copy that a wheel carries."""
    checkout = PACKAGE.parent / "conf"
    return str(checkout if (checkout / "config.yaml").is_file() else PACKAGE / "conf")


def register_resolvers() -> None:
    """Register the interpolations that conf/ uses, and watch those of environment variables."""
    forget_environment()
    watch_environment()
    OmegaConf.register_new_resolver(
        "user_cache", lambda: platformdirs.user_cache_dir("distill"), replace=True
    )
    # Cached: they make the folder. All runs of a sweep share one however long it takes, also those
    # that a launcher starts in other processes.
    for folder in (naming.sweep_dir, naming.run_dir, naming.evaluation_dir):
        OmegaConf.register_new_resolver(folder.__name__, folder, replace=True, use_cache=True)
    for resolver in (
        naming.job_dir,
        naming.search_dir,
        naming.path_name,
        naming.teacher_path,
        naming.layers_name,
    ):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
