"""Run many students of one teacher in one process, and keep a table of what each was worth.

    python experiments/worth_having/trials.py QUEUE TABLE COMMON_OVERRIDE...

QUEUE has one trial a line: a name, then overrides (``cnn-5 student=cnn student.widths=[5]``);
lines that are added while it runs are run too, ``stop`` ends it. TABLE is in JSON lines; trials
whose name stands in it are not repeated. The teacher and its outputs come from ``cache_dir``.
"""

import json
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import distill


def row_of(name: str, overrides: list[str], report: Any, seconds: float) -> dict[str, Any]:
    """Return what a trial came to."""
    models = {model.role: model for model in report.models}
    teacher, student = models["teacher"], models["student"]
    metric = report.comparison.metric
    gain = report.comparison.gain_over_control
    return {
        "name": name,
        "overrides": overrides,
        "data": report.data.name,
        "seed": report.run.seed,
        "examples": report.data.examples,
        "metric": metric,
        "teacher": teacher.quality[metric].value,
        "student": student.quality[metric].value,
        "control": models["control"].quality[metric].value if "control" in models else None,
        "retention": student.quality[metric].value / teacher.quality[metric].value,
        "gain": None if gain is None else [gain.value, gain.low, gain.high],
        "cpu_ms": [model.speed.cpu_ms.p50 for model in (teacher, student)],
        "speedup_cpu": teacher.speed.cpu_ms.p50 / student.speed.cpu_ms.p50,
        "parameters": student.size.parameters,
        "train_seconds": report.timing.student,
        "seconds": seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> None:
    """Run the queue."""
    queue, table, common = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    while True:
        done = {json.loads(line)["name"] for line in table.open()} if table.exists() else set()
        waiting = [shlex.split(line) for line in queue.read_text().splitlines() if line.strip()]
        trial = next((words for words in waiting if words[0] not in done), None)
        if trial is None:
            time.sleep(5)
            continue
        name, *overrides = trial
        if name == "stop":
            return
        clock = time.perf_counter()
        settings = [*common, *overrides]
        try:
            with tempfile.TemporaryDirectory() as folder:
                report = distill.run([*settings, f"output_dir={folder}/{name}"])
            row = row_of(name, settings, report, time.perf_counter() - clock)
        except Exception as error:  # the other trials go on
            row = {"name": name, "overrides": settings, "error": str(error)}
        with table.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
