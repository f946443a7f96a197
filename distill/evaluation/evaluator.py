"""Measure teacher, student and control side by side, and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from distill.core.jagged import ArrayOrJagged
from distill.data.columns import numeric_column
from distill.data.dataset import DistillationDataset
from distill.evaluation import speed
from distill.metrics.statistics import bootstrap_interval, paired_comparison
from distill.modeling import size
from distill.reporting.quantities import quantity
from distill.reporting.schema import (
    Calibration,
    ClassScores,
    Comparison,
    Difference,
    Fidelity,
    MetricValue,
    ModelReport,
    Scores,
    Size,
)

ScoresT = TypeVar("ScoresT", bound=Scores)


@dataclass(frozen=True)
class EvaluatedModel:
    """One model with what it said of the evaluated split.

    Attributes:
        role: ``teacher``, ``student`` or ``control``.
        name: what reports call it.
        model: in memory.
        examples: the evaluated split, encoded for it.
        logits: of every example, ``(N, C)`` or ragged, in the order of the rows; what the task's
            ``condense`` left of them.
    """

    role: str
    name: str
    model: nn.Module
    examples: DistillationDataset
    logits: ArrayOrJagged


def evaluate_models(
    candidates: Sequence[EvaluatedModel], task, device: torch.device
) -> list[ModelReport]:
    """Size, speed, quality, calibration and fidelity of each; the teacher comes first.

    Quality, calibration and fidelity come from the logits given; speed is taken now, in fp32, all
    models taking turns.
    """
    teacher = candidates[0]
    assert teacher.role == "teacher"
    # The teacher's tokens state the length, so that all are counted at the same one.
    length = int(np.median(numeric_column(teacher.examples.student, "length")))
    speeds = speed.measure_speed(
        {candidate.role: candidate.model for candidate in candidates},
        {candidate.role: candidate.examples for candidate in candidates},
        device,
    )
    return [
        ModelReport(
            role=candidate.role,
            name=candidate.name,
            size=_size(candidate.model, length),
            speed=speeds[candidate.role],
            quality=_quality(candidate, task),
            per_class=_per_class(candidate, task),
            calibration=_scores(
                Calibration, task.calibration(candidate.logits, candidate.examples.labels)
            ),
            fidelity=None
            if candidate is teacher
            else _scores(Fidelity, task.fidelity(candidate.logits, teacher.logits)),
        )
        for candidate in candidates
    ]


def compare_models(
    models: Sequence[ModelReport], candidates: Sequence[EvaluatedModel], task
) -> Comparison:
    """Compare the student with teacher and control, on the same examples.

    Args:
        models: What :func:`evaluate_models` measured.
        candidates: The models with their logits.
        task: Has the metrics.
    """
    measured = {model.role: model for model in models}
    judged = {
        candidate.role: task.judge(candidate.logits, candidate.examples) for candidate in candidates
    }
    said = {role: task.comparable(own) for role, (own, *_) in judged.items()}
    shared = judged["teacher"][1:]
    teacher, student = measured["teacher"], measured["student"]
    metric = task.metric
    paired = {
        other: Difference(
            **paired_comparison(
                task.metrics[metric], said["student"], said[other], *shared
            )._asdict()
        )
        for other in ("teacher", "control")
        if other in said
    }
    return Comparison(
        metric=metric,
        retention=quantity(metric).retention(
            student.quality[metric].value, teacher.quality[metric].value
        ),
        size_ratio=_ratio("parameters", teacher, student),
        speedup=_ratio("latency_ms", teacher, student),
        gain_over_control=paired.get("control"),
        difference_to_teacher=paired["teacher"],
    )


def _ratio(name: str, teacher: ModelReport, student: ModelReport) -> float | None:
    """Return how many times smaller a cost of the student is."""
    costs = [quantity(name).read(model) for model in (teacher, student)]
    return costs[0] / costs[1] if costs[0] is not None and costs[1] else None


def _size(model: nn.Module, length: int) -> Size:
    parameters = size.count_parameters(model)
    return Size(
        parameters=parameters.total,
        parameters_without_embeddings=parameters.without_embeddings,
        bytes=size.count_bytes(model),
        multiply_accumulates=size.multiply_accumulates(model, length),
        sequence_length=length,
    )


def _quality(candidate: EvaluatedModel, task) -> dict[str, MetricValue]:
    judged = task.judge(candidate.logits, candidate.examples)
    return {
        name: MetricValue(*bootstrap_interval(metric, *judged))
        for name, metric in task.metrics.items()
    }


def _per_class(candidate: EvaluatedModel, task) -> dict[str, ClassScores]:
    if not task.per_class:
        return {}
    names = candidate.model.config.id2label
    names = [names[index] for index in range(len(names))]
    scores = task.per_class_of(candidate.logits, candidate.examples, names)
    return {name: ClassScores(**of_class) for name, of_class in scores.items()}


def _scores(kind: type[ScoresT], values: Mapping[str, float | None] | None) -> ScoresT | None:
    return None if values is None else kind(values)
