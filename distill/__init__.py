"""Distil a BERT into a smaller student and report what it costs.

Only light imports here: ``distill --help`` and ``distill-report`` must answer at once.
"""

import os

__version__ = "0.1.0"

# GNU OpenMP reads this when torch is imported. Its threads wait for each other by spinning, so a
# busy neighbour on the same processors slows every parallel region down: two threads on two
# processors beside two busy loops took 16 times as long as alone, with this limit 2.4 times as
# long, and alone the same (experiments/benchmarks/RESULTS.md). It changes no result.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
