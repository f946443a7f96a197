"""One run's report: report.json, report.md, tradeoff.png and a few lines for the terminal."""

from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

from distill.reporting import text
from distill.reporting.conclusion import conclude, latency, main_metric, quality
from distill.reporting.figure import draw_tradeoff, save_figure
from distill.reporting.files import write_text

WIDTH = 100


def write(report: dict[str, Any], directory: Path) -> str:
    """Write report.json, report.md and tradeoff.png into ``directory``.

    Args:
        report: The measurements, in schema 1 of report.json. Not changed.
        directory: The run's folder; made if it is not there.

    Returns:
        The short form for the terminal: a table and the conclusion, at most 100 columns.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # report.json last: a folder that has it is a finished run.
    write_text(directory / "report.md", markdown(report))
    save_figure(draw_tradeoff(report), directory / "tradeoff.png")
    write_text(directory / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return terminal(report)


def terminal(report: dict[str, Any]) -> str:
    """The table with one line a model, and the conclusion."""
    metric = main_metric(report)
    columns = {
        "": lambda m: m["role"],
        "parameters": lambda m: text.short(_get(m, "size", "parameters")),
        "MB": lambda m: text.megabytes(_get(m, "size", "bytes")),
        "MACs": lambda m: text.short(_get(m, "size", "multiply_accumulates")),
        "ms": lambda m: text.significant(latency(m)),
        "examples/s": lambda m: text.significant(_get(m, "speed", "examples_per_second")),
        text.label(metric or "quality"): lambda m: text.with_interval(*quality(m, metric)),
        "ECE": lambda m: text.score(_get(m, "calibration", "expected_calibration_error")),
        "agreement": lambda m: text.score(_get(m, "fidelity", "agreement")),
    }
    cells = {name: [cell(model) for model in report["models"]] for name, cell in columns.items()}
    shown = [name for name, column in cells.items() if set(column) != {text.ABSENT}]
    table = text.plain_table(shown, list(zip(*(cells[name] for name in shown), strict=True)))
    return "\n".join([report["run"]["name"], *table, "", *textwrap.wrap(conclude(report), WIDTH)])


def markdown(report: dict[str, Any]) -> str:
    """The whole report.md: table, conclusion, figure, details."""
    sections = [
        f"# {report['run']['name']}",
        "\n".join(_markdown_table(report)),
        conclude(report),
        "![Size and latency against quality](tradeoff.png)",
        *_per_class(report["models"]),
        "## Details",
        "\n".join(_details(report)),
        "## Repeat",
        _commands(report["run"]),
    ]
    return "\n\n".join(sections) + "\n"


def _markdown_table(report: dict[str, Any]) -> list[str]:
    """Models as columns, measures as rows; measures that no model has are left out."""
    models = report["models"]
    first = main_metric(report)
    metrics = list(dict.fromkeys(name for m in models for name in m.get("quality") or {}))
    metrics.sort(key=lambda name: name != first)
    lengths = {_get(m, "size", "sequence_length") for m in models} - {None}
    at_length = f" at {min(lengths)} tokens" if len(lengths) == 1 else ""
    measures = {
        "model": lambda m: m.get("name") or text.ABSENT,
        "parameters": lambda m: text.short(_get(m, "size", "parameters")),
        "without embeddings": lambda m: text.short(
            _get(m, "size", "parameters_without_embeddings")
        ),
        "size on disk, MB": lambda m: text.megabytes(_get(m, "size", "bytes")),
        f"multiply-accumulates{at_length}": lambda m: text.short(
            _get(m, "size", "multiply_accumulates")
        ),
        "latency p50 / p95, ms": _latencies,
        "examples/s": lambda m: text.significant(_get(m, "speed", "examples_per_second")),
        "peak memory, MB": lambda m: text.megabytes(_get(m, "speed", "peak_memory_bytes")),
        **{
            text.label(name): lambda m, name=name: text.with_interval(*quality(m, name))
            for name in metrics
        },
        "expected calibration error": lambda m: text.score(
            _get(m, "calibration", "expected_calibration_error")
        ),
        "negative log-likelihood": lambda m: text.score(
            _get(m, "calibration", "negative_log_likelihood")
        ),
        "correlation with the teacher": lambda m: text.score(_get(m, "fidelity", "correlation")),
        "agreement with the teacher": lambda m: text.score(_get(m, "fidelity", "agreement")),
        "KL divergence from the teacher": lambda m: text.score(
            _get(m, "fidelity", "kl_divergence")
        ),
    }
    rows = [[name, *(cell(model) for model in models)] for name, cell in measures.items()]
    rows = [row for row in rows if set(row[1:]) != {text.ABSENT}]
    return text.markdown_table(["", *(model["role"] for model in models)], rows)


def _per_class(models: list[dict[str, Any]]) -> list[str]:
    """Precision, recall and F1 of every class and model, where that was asked for."""
    models = [model for model in models if model.get("per_class")]
    if not models:
        return []
    parts = ("precision", "recall", "f1")
    header = ["class", "examples"]
    header += [f"{model['role']}: {text.label(part)}" for model in models for part in parts]
    rows = []
    for name, first in models[0]["per_class"].items():
        found = [model["per_class"].get(name) or {} for model in models]
        scores = [text.score(text.finite(one.get(part))) for one in found for part in parts]
        rows.append([name, str(first["support"]), *scores])
    return ["## By class", "\n".join(text.markdown_table(header, rows))]


def _details(report: dict[str, Any]) -> list[str]:
    run, data = report["run"], report["data"]
    counts = ", ".join(
        f"{count:,} {split}" for split, count in (data.get("examples") or {}).items() if count
    )
    lines = [
        f"- Task: {text.label(report['task'])}, data: {data['name']} ({counts} examples), measured"
        f" on {data['evaluated_on']}, fingerprint `{data['fingerprint']}`. Intervals are 95 %"
        " bootstrap intervals over the examples.",
    ]
    known = {"name", "examples", "evaluated_on", "fingerprint", "notes"}
    lines += [
        f"- {text.label(k).capitalize()}: {_plain(v)}"
        for k, v in data.items()
        if k not in known and v not in (None, [], {}, "")
    ]
    lines += [f"- {note}" for note in data.get("notes") or []]
    lines += [f"- {line}" for line in _speed_conditions(report["models"])]
    reused = [text.label(k) for k, is_reused in (report.get("reused") or {}).items() if is_reused]
    times = [
        f"{text.label(k)} {text.duration(v)}" for k, v in (report.get("timing") or {}).items() if v
    ]
    lines.append(
        f"- Time: {text.duration(run['seconds'])}"
        + (f" ({', '.join(times)})" if times else "")
        + (f"; reused: {', '.join(reused)}" if reused else "")
        + "."
    )
    environment = {k: v for k, v in (report.get("environment") or {}).items() if v is not None}
    lines.append(f"- Environment: {_plain(environment)}.")
    lines.append(f"- Started {run['started']}, seed {run['seed']}, in `{run['directory']}`.")
    return lines


def _commands(run: dict[str, Any]) -> str:
    """What repeats the run: the options that were given, or its whole config."""
    folder = run["directory"]
    folder = shlex.quote(folder) if Path(folder).is_absolute() else f'"$PWD"/{shlex.quote(folder)}'
    return (
        f"```\n{shlex.join(['distill', *run['overrides']])}\n```\n\n"
        "or, should a default have changed since,\n\n"
        f"```\ndistill --config-path {folder} --config-name config\n```"
    )


def _speed_conditions(models: list[dict[str, Any]]) -> list[str]:
    """One line for each way in which speed was measured, with the models it holds for."""
    conditions: dict[tuple, list[str]] = {}
    for model in models:
        speed = model.get("speed") or {}
        key = tuple((k, speed.get(k)) for k in ("runtime", "threads", "batch_size"))
        if any(value is not None for _, value in key):
            conditions.setdefault(key, []).append(model["role"])
    return [
        f"Speed of {', '.join(roles)}: {_plain({k: v for k, v in key if v is not None})} for"
        " examples/s; latency is one example at a time with one thread."
        for key, roles in conditions.items()
    ]


def _latencies(model: dict[str, Any]) -> str:
    p50, p95 = (_get(model, "speed", "latency_ms", key) for key in ("p50", "p95"))
    if p50 is None and p95 is None:
        return text.ABSENT
    return f"{text.significant(p50)} / {text.significant(p95)}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{text.label(k)} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value))
    return str(value)


def _get(model: dict[str, Any], *path: str) -> float | None:
    """A number somewhere in a model's dictionary, None where any part of the way is absent."""
    value: Any = model
    for key in path:
        value = (value or {}).get(key)
    return text.finite(value)
