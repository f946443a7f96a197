"""Evaluate teacher, student and control on the same examples, and compare them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.evaluation import speed
from distill.metrics.statistics import bootstrap_interval, paired_comparison
from distill.modeling import size
from distill.modeling.families import config_of, output_names
from distill.reporting.quantities import quantity, retention
from distill.reporting.schema import (
    OTHER_CONTROLS,
    Calibration,
    ClassScores,
    Comparison,
    Difference,
    Fidelity,
    MetricValue,
    ModelReport,
    Role,
    Size,
)
from distill.tasks.base import Task


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with its logits of the evaluated split.

    Attributes:
        role: role in the report.
        name: name in the report.
        model: the model in memory.
        examples: the evaluated split, encoded for the model.
        logits: logits of every example, ``(N, C)`` or jagged, in the order of the rows, as reduced
            by the task's evaluator.
    """

    role: str
    name: str
    model: nn.Module
    examples: DistillationDataset
    logits: ArrayOrJagged


@dataclass(frozen=True)
class MeasuredBaselines:
    """Results of the baselines of a run.

    Attributes:
        models: what was measured of each.
        logits: of the evaluated split, by role.
        notes: for the report: what the task has no baseline for.
        seconds: duration of fitting and measuring.
        reused: whether those that are worth keeping came from the cache; ``None``: there is none.
    """

    models: Sequence[ModelReport] = ()
    logits: Mapping[str, ArrayOrJagged] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    reused: bool | None = None


@dataclass(frozen=True)
class Measurements:
    """Results of the evaluation of a run.

    Attributes:
        models: results of each model.
        comparison: of the student with teacher and control.
        seconds: duration of the evaluation of the models.
        baselines: results of the baselines.
    """

    models: Sequence[ModelReport]
    comparison: Comparison
    seconds: float
    baselines: MeasuredBaselines = field(default_factory=MeasuredBaselines)


def evaluate_models(
    candidates: Sequence[EvaluatedModel], task: Task, device: torch.device
) -> list[ModelReport]:
    """Measure size, speed, quality, calibration and fidelity of each model.

    Quality, calibration and fidelity are computed from the given logits; speed is measured in fp32
    by running all models in turn.

    Args:
        candidates: the models; the teacher first, if it is among them.
        task: evaluates the logits.
        device: device on which speed is measured.
    """
    first = candidates[0]
    teacher = first if first.role == Role.TEACHER else None
    # The length of the first model's examples, so that the operations of all are comparable.
    length = int(np.median(first.examples.lengths))
    speeds = speed.measure_speed(
        {candidate.role: candidate.model for candidate in candidates},
        {candidate.role: candidate.examples for candidate in candidates},
        device,
    )
    return [
        ModelReport(
            role=candidate.role,
            name=candidate.name,
            size=_size(candidate.model, task, length),
            speed=speeds[candidate.role],
            quality=quality_of(candidate.logits, candidate.examples, task),
            per_class=_per_class(candidate, task),
            calibration=calibration_of(candidate.logits, candidate.examples, task),
            fidelity=None
            if teacher is None or candidate is teacher
            else Fidelity(task.evaluator.fidelity(candidate.logits, teacher.logits)),
        )
        for candidate in candidates
    ]


def compare_models(
    models: Sequence[ModelReport],
    candidates: Sequence[EvaluatedModel],
    task: Task,
    other_controls: Sequence[EvaluatedModel] = (),
) -> Comparison:
    """Compare the student with teacher and control, on the same examples.

    Args:
        models: results of :func:`evaluate_models`.
        candidates: the models with their logits.
        task: evaluates the logits.
        other_controls: controls that do not count, with their logits.
    """
    measured = {model.role: model for model in models}
    inputs = {
        candidate.role: task.evaluator.metric_inputs(candidate.logits, candidate.examples)
        for candidate in (*candidates, *other_controls)
    }
    predictions = {
        role: task.evaluator.standardize(values) for role, (values, *_) in inputs.items()
    }
    labels = inputs[Role.TEACHER][1:]
    teacher, student = measured[Role.TEACHER], measured[Role.STUDENT]
    metric = task.evaluator.selection_metric
    paired = {
        role: Difference(
            *paired_comparison(
                metric.function, predictions[Role.STUDENT], predictions[role], *labels
            )
        )
        for role in (Role.TEACHER, Role.CONTROL, *OTHER_CONTROLS)
        if role in predictions
    }
    return Comparison(
        metric=metric.name,
        retention=retention(
            student.metric(metric.name).value,
            teacher.metric(metric.name).value,
            metric.higher_is_better,
        ),
        size_ratio=_ratio("parameters", teacher, student),
        speedup=_ratio("latency_ms", teacher, student),
        gain_over_control=paired.get(Role.CONTROL),
        difference_to_teacher=paired[Role.TEACHER],
        gain_over_other_controls={
            role.value: paired[role] for role in OTHER_CONTROLS if role in paired
        },
    )


def _ratio(name: str, teacher: ModelReport, student: ModelReport) -> float | None:
    """Return how many times smaller a cost of the student is than the teacher's."""
    teacher_cost, student_cost = (quantity(name).read(model) for model in (teacher, student))
    return teacher_cost / student_cost if teacher_cost is not None and student_cost else None


def _size(model: nn.Module, task: Task, length: int) -> Size:
    parameters = size.count_parameters(model)
    inputs = task.preprocessor.example_inputs(config_of(model), length)
    return Size(
        parameters=parameters.total,
        parameters_without_embeddings=parameters.without_embeddings,
        bytes=size.count_bytes(model),
        multiply_accumulates=size.multiply_accumulates(model, inputs),
        sequence_length=length,
    )


def quality_of(
    logits: ArrayOrJagged, examples: DistillationDataset, task: Task
) -> dict[str, MetricValue]:
    """Return every metric of a split's logits with its interval, the main one first."""
    inputs = task.evaluator.metric_inputs(logits, examples)
    return {
        name: MetricValue(*bootstrap_interval(metric.function, *inputs))
        for name, metric in task.evaluator.metrics.items()
    }


def _per_class(candidate: EvaluatedModel, task: Task) -> dict[str, ClassScores]:
    if not task.evaluator.per_class:
        return {}
    names = [name for _, name in sorted(output_names(config_of(candidate.model)).items())]
    scores = task.evaluator.per_class_scores(candidate.logits, candidate.examples, names)
    return {name: ClassScores.from_dict(class_scores) for name, class_scores in scores.items()}


def calibration_of(
    logits: ArrayOrJagged, examples: DistillationDataset, task: Task
) -> Calibration | None:
    """Return the calibration of a split's logits; ``None`` if they stand for no probabilities."""
    scores = task.evaluator.calibration(logits, examples.labels)
    return None if scores is None else Calibration(scores)
