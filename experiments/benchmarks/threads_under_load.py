"""How much do two threads suffer beside busy neighbours, and what does GOMP_SPINCOUNT change?

    python experiments/benchmarks/threads_under_load.py [--neighbours 0 2] [--repeats 3]

Times a stack of matrix products of a small transformer's shape in a process of its own for each
setting, settings in turn. GNU OpenMP reads the variable when torch is imported.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys

SETTINGS = {
    "as it comes": {"GOMP_SPINCOUNT": ""},
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
    """Compute for ever."""
    while True:
        sum(range(100_000))


def seconds(setting: dict[str, str]) -> float:
    """Run the work once in its own process."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    environment |= {key: value for key, value in setting.items() if value}
    command = [sys.executable, "-c", WORK]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def main() -> None:
    """Measure and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print("| busy neighbours | " + " | ".join(SETTINGS) + " |")
    print("|---|" + "---:|" * len(SETTINGS))
    for neighbours in arguments.neighbours:
        processes = [multiprocessing.Process(target=busy, daemon=True) for _ in range(neighbours)]
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
        print(f"| {neighbours} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
