"""Slowdown of two threads beside busy processes, and the effect of GOMP_SPINCOUNT.

    python experiments/benchmarks/threads_under_load.py [--neighbors 0 2] [--repeats 3]

Times a stack of matrix products with the shapes of a small transformer, for each setting in a
separate process, settings in turn. GNU OpenMP reads the variable when torch is imported.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys

SETTINGS = {
    "default": {"GOMP_SPINCOUNT": ""},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
WORK = """
import time, torch
x, w = torch.randn(800, 384), torch.randn(1536, 384)
def step():
    y = x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(6):
            h = torch.nn.functional.gelu(y @ w.T)
            y = torch.nn.functional.layer_norm((h @ w.to(h.dtype)).float(), (384,))
for _ in range(5): step()
started = time.perf_counter()
for _ in range(100): step()
print(time.perf_counter() - started)
"""


def busy() -> None:
    """Compute forever."""
    while True:
        sum(range(100_000))


def seconds(setting: dict[str, str]) -> float:
    """Run the workload once in a separate process and return its seconds."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    environment |= {key: value for key, value in setting.items() if value}
    command = [sys.executable, "-c", WORK]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def main() -> None:
    """Measure and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--neighbors", type=int, nargs="+", default=[0, 1, 2], help="busy processes"
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print("| busy processes | " + " | ".join(SETTINGS) + " |")
    print("|---|" + "---:|" * len(SETTINGS))
    for neighbors in arguments.neighbors:
        processes = [multiprocessing.Process(target=busy, daemon=True) for _ in range(neighbors)]
        for process in processes:
            process.start()
        times: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for _ in range(arguments.repeats):
            for name, setting in SETTINGS.items():
                times[name].append(seconds(setting))
        for process in processes:
            process.terminate()
        cells = [
            f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"
            for values in times.values()
        ]
        print(f"| {neighbors} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
