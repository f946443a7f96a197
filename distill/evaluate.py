"""``python -m distill.evaluate``: the command ``distill-evaluate``.

The module has the name of the function ``distill.evaluate``, whose place in the package it takes
where somebody imports it: it can be called as well.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from distill.cli.evaluate import main

if TYPE_CHECKING:
    from distill.reporting.schema import Report


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> "Report":
        from distill.api import evaluate

        return evaluate(*arguments, **settings)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
