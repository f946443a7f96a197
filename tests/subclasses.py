"""Every class of the package that fulfils a contract: a new one is tested by being there."""

import importlib
import inspect
import pkgutil
from types import ModuleType


def concrete_subclasses(cls: type, package: ModuleType) -> list[type]:
    """Return the subclasses that a package defines and that can be built, by name."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found, queue = set(), [cls]
    while queue:
        direct = queue.pop().__subclasses__()
        found.update(direct)
        queue += direct
    return sorted(
        (
            sub
            for sub in found
            if sub.__module__.startswith(f"{package.__name__}.") and not inspect.isabstract(sub)
        ),
        key=lambda sub: sub.__qualname__,
    )
