"""Fit baselines and measure them like models."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.baselines.base import Baseline, BaselineData, FittedBaseline, StoredBaseline
from distill.core.cache import cache_key, entry_name, get_or_create
from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData
from distill.evaluation.evaluator import (
    EvaluatedModel,
    MeasuredBaselines,
    calibration_of,
    quality_of,
)
from distill.evaluation.speed import EXAMPLES, ROUNDS, latency
from distill.reporting.schema import (
    Fidelity,
    ModelReport,
    Role,
    Size,
    Speed,
)
from distill.tasks.base import Task

log = logging.getLogger(__name__)

# What is timed of a baseline, where models are timed from tensors to logits.
RUNTIME = "numpy, from {} to the answer"


@dataclass(frozen=True)
class BaselineInputs:
    """What baselines are fitted and measured on.

    Attributes:
        data: prepared data.
        train: labeled training examples, with their source.
        validation: examples that settings are chosen on.
        test: the evaluated examples, encoded for the student.
        outputs: number of outputs; for language models the size of the vocabulary.
    """

    data: PreparedData
    train: DistillationDataset
    validation: DistillationDataset
    test: DistillationDataset
    outputs: int


def measure_baselines(
    roles: Sequence[str],
    task: Task,
    inputs: BaselineInputs,
    cache_dir: Path,
    teacher: EvaluatedModel | None = None,
) -> MeasuredBaselines:
    """Fit the task's baselines of the given roles, or load them, and measure them.

    Args:
        roles: wanted roles; the task may not have all of them.
        task: names its baselines, and evaluates them.
        inputs: data.
        cache_dir: where fitted ones are kept.
        teacher: for the fidelity.
    """
    started = time.perf_counter()
    models, logits, notes, reused = [], {}, [], []
    for role in roles:
        fitted = None
        if role in task.baselines:
            fitted, was_reused = _fit(task.baselines[role], task, inputs, cache_dir)
            if was_reused is not None:
                reused.append(was_reused)
        predicted = None if fitted is None else fitted.predict(inputs.test)
        if fitted is None or predicted is None:
            notes.append(_no_baseline(role, task))
            continue
        report = _measure(role, fitted, predicted, task, inputs.test, teacher)
        value = report.metric(task.evaluator.metric_name).value
        log.info("baseline %s: %s, %s %.4f", role, fitted.name, task.evaluator.metric_name, value)
        models.append(report)
        logits[role] = predicted
    seconds = time.perf_counter() - started
    return MeasuredBaselines(models, logits, notes, seconds, all(reused) if reused else None)


def _fit(
    baseline: Baseline, task: Task, inputs: BaselineInputs, cache_dir: Path
) -> tuple[FittedBaseline, bool | None]:
    """Return the fitted baseline, and whether it was reused; ``None`` if it is never kept."""
    evaluator, validation = task.evaluator, inputs.validation
    metric = evaluator.selection_metric

    def score(logits: ArrayOrJagged) -> float:
        value = float(metric(*evaluator.metric_inputs(logits, validation)))
        return value if metric.higher_is_better else -value

    data = BaselineData(inputs.train, validation, inputs.data.label_names, inputs.outputs, score)
    if baseline.stored is None:
        return baseline.fit(data), None
    counts = validation.position_counts
    key = cache_key(
        kind="baseline", format=1, role=baseline.role, settings=baseline.settings,
        task=task.name, metric=metric.name, train=inputs.data.hashes["train"],
        validation=inputs.data.hashes["validation"],
        read=None if counts is None else int(counts.sum()),
    )  # fmt: skip
    folder = cache_dir / "baselines" / entry_name(baseline.role, inputs.data.name, key)

    def create(partial: Path) -> None:
        fitted = baseline.fit(data)
        assert isinstance(fitted, StoredBaseline)
        fitted.save(partial)

    reused = get_or_create(folder, create)
    return baseline.stored.load(folder), reused


def _measure(
    role: str,
    fitted: FittedBaseline,
    logits: ArrayOrJagged,
    task: Task,
    test: DistillationDataset,
    teacher: EvaluatedModel | None,
) -> ModelReport:
    costs, is_probabilistic = fitted.costs(test), fitted.is_probabilistic
    return ModelReport(
        role=role,
        name=fitted.name,
        size=None if costs is None else Size.from_dict(asdict(costs)),
        speed=None if costs is None else _speed(fitted, test),
        quality=quality_of(logits, test, task),
        calibration=calibration_of(logits, test, task) if is_probabilistic else None,
        fidelity=Fidelity(task.evaluator.fidelity(logits, teacher.logits))
        if teacher is not None and is_probabilistic
        else None,
    )


def _speed(fitted: FittedBaseline, test: DistillationDataset) -> Speed:
    """Time single rows spread over the lengths that occur, each by the least of its rounds."""
    assert test.source is not None
    order = np.argsort(test.lengths, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(EXAMPLES, len(order)), dtype=int)]
    rows: list[dict[str, Any]] = [test.source[int(index)] for index in chosen]
    wall, cpu = np.empty((2, ROUNDS, len(rows)))
    for turn in range(-1, ROUNDS):  # the first round warms up
        for index, row in enumerate(rows):
            wall_start, cpu_start = time.perf_counter(), time.thread_time()
            fitted.predict_row(row)
            cpu_seconds = time.thread_time() - cpu_start
            if turn >= 0:
                wall[turn, index] = time.perf_counter() - wall_start
                cpu[turn, index] = cpu_seconds
    return Speed(
        latency_ms=latency(wall.min(axis=0)),
        latency_ms_median_round=latency(np.median(wall, axis=0)),
        cpu_ms=latency(cpu.min(axis=0)),
        runtime=RUNTIME.format(fitted.reads),
    )


def _no_baseline(role: str, task: Task) -> str:
    kinds = {
        Role.MAJORITY: "answer that is always the same",
        Role.WORDS: "linear model on words",
        Role.PIXELS: "linear model on pixels",
    }
    return f"No baseline: task={task.name} has no {kinds.get(Role(role), role)} for these data."
