"""The comparison as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distill.reporting.formats.base import TextFormat, register_format
from distill.reporting.schema import SCHEMA
from distill.reporting.summary import footnotes, summarize

if TYPE_CHECKING:
    from distill.reporting.compare import RunComparison
    from distill.reporting.rows import Row


@register_format
class Json(TextFormat):
    """Everything, with full precision; strict JSON."""

    name = "json"
    suffix = ".json"

    def render(self, comparison: RunComparison, width: int | None = None) -> str:
        """Return the document; ``width`` does not matter."""
        content = as_dict(comparison)
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(comparison: RunComparison) -> dict[str, Any]:
    """Return the content of the JSON document."""
    answer = comparison.answer
    return {
        "schema": SCHEMA,
        "task": comparison.task,
        "data": comparison.data.to_dict(),
        "metric": comparison.metric,
        "x": comparison.x,
        "y": comparison.y,
        "rows": [_row(row) for row in comparison.rows],
        "hypervolume": {
            "value": comparison.hypervolume,
            "reference": comparison.reference,
            "ideal": comparison.ideal,
        },
        "comparisons": comparison.tested_gains,
        "summary": summarize(comparison),
        "notes": footnotes(comparison),
        "answer": None
        if answer is None
        else {
            "within": answer.within,
            "title": answer.row.title if answer.row else None,
            "text": answer.text,
        },
        "unfinished": [asdict(run) for run in comparison.unfinished],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "role": row.role,
        "settings": row.settings,
        "seeds": [run.seed for run in row.runs],
        "values": row.values,
        "intervals": row.intervals,
        "interval_over": row.interval_over,
        "gain": asdict(row.gain) if row.gain else None,
        "on_front": row.on_front,
        "runs": [asdict(run) for run in row.runs],
    }
