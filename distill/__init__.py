"""Distill a BERT into a smaller student and report what it costs.

>>> import distill
>>> report = distill.run(["student=third", "seed=1"])  # doctest: +SKIP
>>> report.student.quality["accuracy"].value  # doctest: +SKIP
0.871

Only light imports here: ``distill --help`` and ``distill-report`` must answer at once.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.api import evaluate, run
    from distill.core.errors import UserError
    from distill.predict import Predictor
    from distill.reporting.schema import Report, load_report

__all__ = ["Predictor", "Report", "UserError", "__version__", "evaluate", "load_report", "run"]
__version__ = "0.1.0"

# GNU OpenMP reads this when torch is imported. Its threads wait for each other by spinning, so a
# busy neighbor on the same processors slows every parallel region down: two threads on two
# processors beside two busy loops took 16 times as long as alone, with this limit 2.4 times as
# long, and alone the same (experiments/benchmarks/RESULTS.md). It changes no result.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Imported when they are first used.
_MODULES = {
    "Predictor": "distill.predict",
    "Report": "distill.reporting.schema",
    "UserError": "distill.core.errors",
    "evaluate": "distill.api",
    "load_report": "distill.reporting.schema",
    "run": "distill.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
