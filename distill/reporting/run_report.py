"""The files of one run's report: report.json, report.md and tradeoff.png."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.core.checksums import write_checksums
from distill.reporting import text
from distill.reporting.figure import draw_tradeoff, save_figure
from distill.reporting.files import write_text
from distill.reporting.quantities import quantity, speedup
from distill.reporting.run_table import overview, table_and_conclusion
from distill.reporting.schema import FILE_NAME, ModelReport, Report, RunInfo

CLASS_SCORES = ("precision", "recall", "f1")


def write(
    report: Report, directory: Path, before_it_counts: Callable[[], None] = lambda: None
) -> str:
    """Write report.json, report.md and tradeoff.png into ``directory``.

    Args:
        report: The measurements.
        directory: The run's folder, created if it does not exist.
        before_it_counts: Writes what a finished run has beside them.

    Returns:
        The short form for the terminal: a table and the conclusion, at most 100 columns.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "report.md", markdown(report))
    save_figure(draw_tradeoff(report), directory / "tradeoff.png")
    before_it_counts()
    # report.json last: a folder that has it is a finished run.
    report.write(directory / FILE_NAME)
    write_checksums(directory, files=[FILE_NAME])
    return overview(report)


def markdown(report: Report) -> str:
    """Return the whole report.md: table, conclusion, figure, details."""
    sections = [
        f"# {text.escape_markdown(report.run.name)}",
        *table_and_conclusion(report),
        "![Size and latency against quality](tradeoff.png)",
        *_by_seed(report),
        *_per_class(report.models),
        "## Details",
        "\n".join(_details(report)),
        "## Repeat",
        _commands(report.run),
        *([f"## Serve\n\n{line}"] if (line := serve_line(report)) else []),
    ]
    return "\n\n".join(sections) + "\n"


def serve_line(report: Report) -> str:
    """Return which exported form to serve: the fastest that passed every check; empty without any.

    :class:`distill.predict.Predictor` takes the same one.
    """
    forms = [
        (model.speed.cpu_ms.p50, model)
        for model in report.models
        if model.extra.get("export", {}).get("passed")
        and model.speed is not None
        and model.speed.cpu_ms is not None
        and model.speed.cpu_ms.p50 is not None
    ]
    if not forms:
        return ""
    milliseconds, model = min(forms, key=lambda form: form[0])
    export, facts = (
        model.extra["export"],
        [f"{text.significant(milliseconds)} ms of processor time"],
    )
    if (faster := export.get("times_faster_than_torch")) is not None:
        facts.append(f"{text.significant(faster, 2)} times less than in torch")
    if model.size is not None and model.size.bytes is not None:
        facts.append(f"{model.size.bytes / 1e6:.1f} MB")
    if (metric := report.main_metric) is not None and metric in model.quality:
        value = model.quality[metric]
        shown = text.with_interval(value.value, value.low, value.high)
        facts.append(f"{text.words(metric)} {shown}")
    if (agreement := export.get("agreement_with_student")) is not None:
        facts.append(f"{agreement:.1%} of the student's answers")
    folder = shlex.quote(report.run.directory or report.run.name)
    caveat = (
        ""
        if export.get("neighbors") == "independent"
        else " An answer may depend on the others of its batch."
    )
    return (
        f"Serve it as {model.role} ({', '.join(facts)}): `distill-serve {folder}`, or "
        f"`distill-predict {folder} FILE`.{caveat}"
    )


def _by_seed(report: Report) -> list[str]:
    """The main metric of every seed's models, where there are several."""
    if not report.repeats:
        return []
    metric = report.main_metric or ""
    roles = list(dict.fromkeys(role for repeat in report.repeats for role in repeat.models))
    rows = []
    for repeat in report.repeats:
        found = [
            repeat.models[role].quality.get(metric) if role in repeat.models else None
            for role in roles
        ]
        rows.append([str(repeat.seed), *map(text.score, found)])
    label = text.words(metric)
    header = ["seed", *(f"{role}: {label}" for role in roles)]
    return ["## By seed", "\n".join(text.markdown_table(header, rows))]


def _per_class(models: Sequence[ModelReport]) -> list[str]:
    """Precision, recall and F1 of every class and model, where that was asked for."""
    models = [model for model in models if model.per_class]
    if not models:
        return []
    header = ["class", "examples"]
    header += [f"{model.role}: {text.words(score)}" for model in models for score in CLASS_SCORES]
    rows = []
    for name, first in models[0].per_class.items():
        found = [model.per_class.get(name) for model in models]
        scores = [
            text.score(getattr(of_class, score, None))
            for of_class in found
            for score in CLASS_SCORES
        ]
        rows.append([text.escape_markdown(name), str(first.support), *scores])
    return ["## By class", "\n".join(text.markdown_table(header, rows))]


def _details(report: Report) -> list[str]:
    run, data = report.run, report.data
    counts = ", ".join(f"{count:,} {split}" for split, count in data.examples.items() if count)
    lines = [
        f"- Task: {text.words(report.task)}, data: {_escaped(data.name)} ({counts} examples),"
        f" measured on {_escaped(data.evaluated_on)}, fingerprint"
        f" {text.code_span(str(data.fingerprint))}. Intervals are 95 %"
        " bootstrap intervals over the examples.",
    ]
    if any("macro_f1" in model.quality for model in report.models):
        lines.append(
            "- The interval of macro F1 holds the truth in less than 95 % where a class has fewer"
            " than ten test examples: in 80 % with two, in 61 % if half of the classes have fewer"
            " than three."
        )
    if any(model.calibration_intervals for model in report.models):
        lines.append(f"- {_calibration(report)}")
    if any(model.temperature_scaling for model in report.models):
        lines.append(
            "- Temperature: the number that all logits of a model are divided by, fitted on"
            " validation by the negative log-likelihood (Guo et al. 2017). It changes no"
            " prediction; above 1 the model is too sure of itself. A model without one is right on"
            " all of validation, or tells less than chance."
        )
    others = {"labels": data.labels, **data.extra}
    lines += [
        f"- {text.words(name).capitalize()}: {_escaped(_plain(value))}"
        for name, value in others.items()
        if value not in (None, (), [], {}, "")
    ]
    lines += [f"- {_escaped(note)}" for note in data.notes]
    lines += [f"- {line}" for line in _speed_conditions(report.models)]
    lines += [f"- {line}" for line in _baselines(report.baselines)]
    lines += [f"- {line}" for line in _speedup(report)]
    reused = [text.words(name) for name, is_reused in _items(report.reused) if is_reused]
    times = [
        f"{text.words(name)} {text.duration(seconds)}"
        for name, seconds in _items(report.timing)
        if seconds
    ]
    lines.append(
        f"- Time: {text.ABSENT if run.seconds is None else text.duration(run.seconds)}"
        + (f" ({', '.join(times)})" if times else "")
        + (f"; reused: {', '.join(reused)}" if reused else "")
        + "."
    )
    environment = {name: value for name, value in _items(report.environment) if value is not None}
    lines.append(f"- Environment: {_escaped(_plain(environment))}.")
    seed = "" if run.seed is None else f" seed {run.seed},"
    lines.append(f"- Started {run.started},{seed} in {text.code_span(str(run.directory))}.")
    return lines


def _escaped(value: object) -> str:
    return text.escape_markdown(str(value))


def _calibration(report: Report) -> str:
    """Return the intervals of calibration, and the student's difference to the control."""
    parts = []
    for name in dict.fromkeys(n for model in report.models for n in model.calibration_intervals):
        label = quantity(name).label
        values = [
            f"{model.role} {text.with_interval(model.scores.get(name), ends.low, ends.high)}"
            for model in report.models
            if (ends := model.calibration_intervals.get(name))
        ]
        found = report.comparison.calibration.get(name) if report.comparison else None
        if found is not None and found.value is not None:
            p = "" if found.p_value is None else f", {text.p_equals(found.p_value)}"
            difference = quantity(name).difference(found.value, found.low, found.high)
            values.append(f"student minus control {difference}{p}")
        parts.append(f"{label.capitalize()}: {', '.join(values)}.")
    note = "The interval of the calibration error is wider than one of 95 % need be."
    gains = report.comparison.calibration if report.comparison else {}
    if any(found.seeds == 1 for found in gains.values()):
        note += " Those of differences of one seed hold the truth in 92 to 93 % in simulations."
    return " ".join([*parts, note])


def _items(record: Any) -> list[tuple[str, Any]]:
    """Return the keys and values of a record, none where it is absent."""
    return list(record.to_dict().items()) if record else []


def _commands(run: RunInfo) -> str:
    """Return what repeats the run: the options that were given, or its whole config."""
    folder = run.directory or ""
    folder = shlex.quote(folder) if Path(folder).is_absolute() else f'"$PWD"/{shlex.quote(folder)}'
    command = run.extra.get("command", "distill")
    return "\n\n".join(
        [
            text.code_block(shlex.join([command, *run.overrides])),
            "or, should a default have changed since,",
            text.code_block(f"{command} --config-path {folder} --config-name config"),
        ]
    )


def _speed_conditions(models: Sequence[ModelReport]) -> list[str]:
    """Return a line for each way in which speed was measured, with the models it holds for."""
    conditions: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    for model in models:
        key = tuple(
            (name, getattr(model.speed, name, None))
            for name in ("runtime", "threads", "batch_size")
        )
        if any(value is not None for _, value in key):
            conditions.setdefault(key, []).append(model.role)
    return [
        f"Speed of {', '.join(roles)}: {_plain({k: v for k, v in key if v is not None})} for"
        " examples/s; latency is one example at a time with one thread."
        for key, roles in conditions.items()
    ]


def _baselines(baselines: Sequence[ModelReport]) -> list[str]:
    """Return a line for each baseline: what it is, and what its latency is of."""
    lines = []
    for model in baselines:
        runtime = model.speed.runtime if model.speed else None
        timed = f"; latency is of {runtime}, one at a time" if runtime else ""
        lines.append(f"Baseline {model.role}: {model.name}{timed}.")
    return lines


def _speedup(report: Report) -> list[str]:
    """Return how the speed-up was computed, if it was."""
    if report.teacher is None or report.student is None:
        return []
    ratio, name = speedup(report.teacher, report.student)
    if ratio is None:
        return []
    measured = quantity(name)
    reason = (
        ", because other programs interrupted the measurement and lengthened the latency"
        if name == "cpu_ms"
        else ""
    )
    return [f"Speed-up of the student: {text.significant(ratio)}, by {measured.label}{reason}."]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{text.words(k)} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_plain, value))
    return str(value)
