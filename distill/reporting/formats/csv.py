"""The comparison as CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from distill.reporting.formats.base import TextFormat, register_format

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.rows import Row


@register_format
class Csv(TextFormat):
    """One line for each model and for each run that is not compared; missing values are empty."""

    name = "csv"
    suffix = ".csv"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return the lines with full precision; ``width`` does not matter."""
        lines = [_line(row) for row in comparison.rows]
        lines += [
            {"status": run.state, "directories": run.directory, "reason": run.reason}
            for run in comparison.unfinished
        ]
        names = dict.fromkeys(["status", *(name for line in lines for name in line)])
        out = io.StringIO()
        writer = csv.DictWriter(out, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()


def _line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "status": "finished",
        "name": row.name,
        "role": row.role,
        **{f"settings.{name}": value for name, value in row.settings.items()},
        "seeds": " ".join(str(run.seed) for run in row.runs),
        "on_front": row.on_front,
    }
    for name, value in row.values.items():
        line[name] = value
        if name in row.intervals:
            line[f"{name}_low"], line[f"{name}_high"] = row.intervals[name]
    line["interval_over"] = row.interval_over
    if row.gain:
        line |= {
            "gain": row.gain.value,
            "gain_low": row.gain.low,
            "gain_high": row.gain.high,
            "gain_p_value": row.gain.p_value,
            "gain_p_holm": row.gain.p_holm,
        }
    line["directories"] = " ".join(run.directory for run in row.runs)
    return line
