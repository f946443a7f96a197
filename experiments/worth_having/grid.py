"""Every student on every labeled subset of several data sets, three seeds each; a table of rows.

    python experiments/worth_having/grid.py FOLDER TABLE [CELL ...]

FOLDER has a folder with train, validation and test for each data set that does not come with the
program. TABLE is in JSON lines; cells (``sst2/fastest/0``: data, student, subset) that stand in it
are not repeated. Without CELL all are run, those that were asked for most first.
"""

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distill

# Overrides by data set: labels, texts without, lengths.
DATA = {
    "sst2": ["data.limit=2000", "data.max_length=64"],
    "tweets": ["data=tweets"],
    "imdb500": ["data.limit=500", "data.max_length=128", "student.max_length=512"],
    "imdb2000": ["data.limit=2000", "data.max_length=128", "student.max_length=512"],
    "nsmc": ["data.limit=2000", "data.max_length=64"],
    "docstrings": ["data=docstrings", "data.limit=2000"],
}
STUDENTS = {"fastest": ["student=fastest"], "fast": ["student=fast"]}
SUBSETS = (0, 1, 2)


def overrides_of(cell: str, folder: Path) -> list[str]:
    """Return the overrides of a cell."""
    data, student, subset = cell.split("/")
    folders = {"imdb500": "imdb", "imdb2000": "imdb"}
    source = ["data=files", f"data.path={folder / folders.get(data, data)}"]
    if DATA[data][0].startswith("data="):  # comes with the program
        source = []
    common = ["data.unlabeled=train", "repeats=3", f"data.subset_seed={subset}"]
    return [*source, *DATA[data], *STUDENTS[student], *common]


def row_of(cell: str, report: Any, seconds: float) -> dict[str, Any]:
    """Return what a cell came to."""
    models = {model.role: model for model in report.models}
    comparison, metric = report.comparison, report.comparison.metric
    teacher, student = models["teacher"], models["student"]

    def interval(value: Any) -> list[float] | None:
        return None if value is None else [value.value, value.low, value.high]

    return {
        "cell": cell,
        "examples": report.data.examples,
        "metric": metric,
        "teacher": teacher.quality[metric].value,
        "student": interval(comparison.means["student"]),
        "control": interval(comparison.means["control"]),
        "words": models["words"].quality[metric].value if "words" in models else None,
        "retention": [
            comparison.retention,
            comparison.retention_interval.low,
            comparison.retention_interval.high,
        ],
        "gain": interval(comparison.gain_over_control),
        "over_words": interval(comparison.difference_to_words),
        "cpu_ms": [model.speed.cpu_ms.p50 for model in (teacher, student)],
        "speedup_cpu": teacher.speed.cpu_ms.p50 / student.speed.cpu_ms.p50,
        "parameters": [teacher.size.parameters, student.size.parameters],
        "timing": report.timing.to_dict(),
        "seconds": seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Run the cells that are missing."""
    folder, table = Path(sys.argv[1]), Path(sys.argv[2])
    cells = sys.argv[3:] or [
        f"{data}/{student}/{subset}" for student in STUDENTS for subset in SUBSETS for data in DATA
    ]
    for cell in cells:
        done = {json.loads(line)["cell"] for line in table.open()} if table.exists() else set()
        if cell in done:
            continue
        clock = time.perf_counter()
        with tempfile.TemporaryDirectory() as output:
            overrides = [*overrides_of(cell, folder), f"output_dir={output}/run"]
            try:
                row = row_of(cell, distill.run(overrides), time.perf_counter() - clock)
            except Exception as error:  # the other cells go on
                row = {"cell": cell, "error": repr(error)}
        with table.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
