"""Teacher, student and control, measured side by side: the ``models`` of report.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.evaluation import speed
from distill.metrics.base import Metric
from distill.metrics.statistics import bootstrap_interval, paired_comparison
from distill.modeling import size
from distill.tasks.base import Task


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
    candidates: Sequence[EvaluatedModel], task: Task, device: torch.device
) -> list[dict[str, Any]]:
    """Size, speed, quality, calibration and fidelity of each; the teacher comes first.

    Quality, calibration and fidelity come from the logits given; speed is taken now, in fp32, all
    models taking turns.
    """
    teacher = candidates[0]
    assert teacher.role == "teacher"
    # The teacher's tokens state the length, so that all are counted at the same one.
    length = int(np.median(teacher.examples.lengths))
    speeds = speed.measure_speed(
        {candidate.role: candidate.model for candidate in candidates},
        {candidate.role: candidate.examples for candidate in candidates},
        device,
    )
    return [
        {
            "role": candidate.role,
            "name": candidate.name,
            "size": _size(
                candidate.model,
                task.preprocessor.example_inputs(candidate.model.config, length),
                length,
            ),
            "speed": _speed(speeds[candidate.role], device),
            "quality": _quality(candidate, task),
            "per_class": _per_class(candidate, task),
            "calibration": task.evaluator.calibration(candidate.logits, candidate.examples.labels),
            "fidelity": None
            if candidate is teacher
            else task.evaluator.fidelity(candidate.logits, teacher.logits),
        }
        for candidate in candidates
    ]


def compare_models(
    models: Sequence[dict[str, Any]], candidates: Sequence[EvaluatedModel], task: Task
) -> dict[str, Any]:
    """The ``comparison`` of report.json.

    ``retention`` is the student's metric over the teacher's, None unless that is above 0;
    ``size_ratio`` and ``speedup`` are
    how many times fewer parameters and less latency (p50) the student has; ``gain_over_control``
    and ``difference_to_teacher`` are the paired differences on the same examples.
    """
    measured = {model["role"]: model for model in models}
    judged = {
        candidate.role: task.evaluator.metric_inputs(candidate.logits, candidate.examples)
        for candidate in candidates
    }
    said = {role: task.evaluator.standardize(own) for role, (own, *_) in judged.items()}
    shared = judged["teacher"][1:]
    teacher, student = measured["teacher"], measured["student"]
    metric = task.evaluator.selection_metric
    reference = teacher["quality"][metric.name]["value"]
    paired = {
        other: paired_comparison(metric.function, said["student"], said[other], *shared)._asdict()
        for other in ("teacher", "control")
        if other in said
    }
    latency = {role: model["speed"]["latency_ms"]["p50"] for role, model in measured.items()}
    return {
        "metric": metric.name,
        "retention": _retention(student["quality"][metric.name]["value"], reference, metric),
        "size_ratio": teacher["size"]["parameters"] / student["size"]["parameters"],
        "speedup": latency["teacher"] / latency["student"],
        "gain_over_control": paired.get("control"),
        "difference_to_teacher": paired["teacher"],
    }


def _retention(student: float, teacher: float, metric: Metric) -> float | None:
    """Return the share of the teacher's quality that the student keeps.

    ``student / teacher``, or ``teacher / student`` where smaller is better; ``None`` unless the
    denominator is above 0.
    """
    numerator, denominator = (student, teacher) if metric.higher_is_better else (teacher, student)
    return numerator / denominator if denominator > 0 else None


def _size(model: nn.Module, inputs: dict[str, torch.Tensor], length: int) -> dict[str, int]:
    parameters = size.count_parameters(model)
    return {
        "parameters": parameters.total,
        "parameters_without_embeddings": parameters.without_embeddings,
        "bytes": size.count_bytes(model),
        "multiply_accumulates": size.multiply_accumulates(model, inputs),
        "sequence_length": length,
    }


def _speed(measured: speed.Speed, device: torch.device) -> dict[str, Any]:
    return {
        "latency_ms": measured.fastest._asdict(),
        "latency_ms_median_round": measured.median._asdict(),
        "cpu_ms": measured.cpu._asdict() if measured.cpu else None,
        "examples_per_second": measured.examples_per_second,
        "batch_size": speed.BATCH,
        "threads": measured.threads,
        "runtime": f"torch {device.type} fp32",
        "peak_memory_bytes": measured.peak_memory_bytes,
    }


def _quality(candidate: EvaluatedModel, task: Task) -> dict[str, dict[str, float]]:
    judged = task.evaluator.metric_inputs(candidate.logits, candidate.examples)
    return {
        name: bootstrap_interval(metric.function, *judged)._asdict()
        for name, metric in task.evaluator.metrics.items()
    }


def _per_class(candidate: EvaluatedModel, task: Task) -> dict[str, dict] | None:
    if not task.evaluator.per_class:
        return None
    names = candidate.model.config.id2label
    names = [names[index] for index in range(len(names))]
    return task.evaluator.per_class_scores(candidate.logits, candidate.examples, names)
