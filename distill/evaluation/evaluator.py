"""Evaluate teacher, student and control on the same examples, and compare them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from distill.core.jagged import ArrayOrJagged
from distill.data.dataset import DistillationDataset
from distill.evaluation import speed
from distill.evaluation.divergence import mean_divergence
from distill.metrics.base import Floats, Metric, MetricFunction
from distill.metrics.calibration import (
    binned_error,
    expected_calibration_error,
    fit_temperature,
    mean_loss,
    negative_log_likelihood,
)
from distill.metrics.fidelity import log_softmax
from distill.metrics.resampling import ExampleResamples, seeds_interval
from distill.metrics.statistics import (
    bias_corrected_ends,
    bootstrap_interval,
    calibration_error_interval,
    paired_comparison,
)
from distill.modeling import size
from distill.modeling.families import config_of, output_names
from distill.reporting.quantities import quantity, retention, speedup
from distill.reporting.schema import (
    EACH_CONTROL,
    EXAMPLES,
    LINEAR_MODELS,
    SEEDS,
    Calibration,
    ClassScores,
    Comparison,
    Difference,
    Fidelity,
    MetricValue,
    ModelReport,
    Range,
    Repeat,
    RepeatedModel,
    Role,
    Size,
    Speed,
    TemperatureScaling,
)
from distill.tasks.base import Task
from distill.tasks.evaluator import CalibrationSamples


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
        weight_files: files of the saved weights; without any, the size of those in memory counts.
        temperature: fitted on the validation split; ``None``: none was, or none fits best.
        exported: the model in another runtime, which computed the logits and is timed.
    """

    role: str
    name: str
    model: nn.Module
    examples: DistillationDataset
    logits: ArrayOrJagged
    weight_files: Sequence[Path] = ()
    temperature: float | None = None
    exported: "ExportedModule | None" = None


@dataclass(frozen=True)
class ExportedModule:
    """An exported model, called like one in torch.

    Attributes:
        module: computes the logits of a batch, on one thread.
        runtime: its name in reports.
    """

    module: nn.Module
    runtime: str


@dataclass(frozen=True)
class SeedLogits:
    """What the models that one more seed has trained predict on the evaluated split.

    Attributes:
        seed: of their training.
        logits: by role, as :class:`EvaluatedModel` holds them.
    """

    seed: int
    logits: Mapping[str, ArrayOrJagged]


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

    @property
    def of_linear_model(self) -> dict[str, list[ArrayOrJagged]]:
        """Logits of the linear model, by its role, as :func:`compare_models` takes them."""
        return {role: [self.logits[role]] for role in LINEAR_MODELS if role in self.logits}


@dataclass(frozen=True)
class Measurements:
    """Results of the evaluation of a run.

    Attributes:
        models: results of each model; of several seeds, those of the first.
        comparison: of the student with teacher and control.
        seconds: duration of the evaluation of the models.
        repeats: results of each seed where there are several.
        baselines: results of the baselines.
    """

    models: Sequence[ModelReport]
    comparison: Comparison
    seconds: float
    repeats: Sequence[Repeat] = ()
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
        device: device on which speed is measured; all on one thread where a model is exported.
    """
    first = candidates[0]
    teacher = first if first.role == Role.TEACHER else None
    # The length of the first model's examples, so that the operations of all are comparable.
    length = int(np.median(first.examples.lengths))
    exported = {one.role: one.exported for one in candidates if one.exported is not None}
    timed = {
        one.role: one.model if one.exported is None else one.exported.module for one in candidates
    }
    examples = {one.role: one.examples for one in candidates}
    with speed.one_thread() if exported else nullcontext():
        speeds = speed.measure_speed(timed, examples, device)
    for role, module in exported.items():
        # What another runtime allocates cannot be seen from here.
        speeds[role] = replace(speeds[role], runtime=module.runtime, peak_memory_bytes=None)
    return [
        model_report(
            candidate, task, _size(candidate, task, length), speeds[candidate.role], teacher
        )
        for candidate in candidates
    ]


def model_report(
    candidate: EvaluatedModel, task: Task, size: Size, speed: Speed, teacher: EvaluatedModel | None
) -> ModelReport:
    """Measure quality, calibration and fidelity of a model by its logits.

    Args:
        candidate: the model.
        task: evaluates the logits.
        size: its size.
        speed: its speed.
        teacher: whom it is compared with, if anybody.
    """
    return ModelReport(
        role=candidate.role,
        name=candidate.name,
        size=size,
        speed=speed,
        quality=quality_of(candidate.logits, candidate.examples, task),
        per_class=_per_class(candidate, task),
        calibration=calibration_of(candidate.logits, candidate.examples, task),
        fidelity=None
        if teacher is None or candidate is teacher
        else _fidelity(candidate, teacher, task),
        calibration_intervals=_calibration_intervals(candidate, task),
        constant_prediction=_constant_prediction(candidate, task),
        temperature_scaling=_temperature_scaling(candidate, task),
    )


def _fidelity(candidate: EvaluatedModel, teacher: EvaluatedModel, task: Task) -> Fidelity:
    """Compare a model with the teacher by their logits; run both where too little was kept."""
    found = task.evaluator.fidelity(candidate.logits, teacher.logits)
    if task.evaluator.compares_distributions:
        found["kl_divergence"] = mean_divergence(
            teacher.model, teacher.examples, candidate.model, candidate.examples
        )
    return Fidelity(found)


def compare_models(
    models: Sequence[ModelReport],
    candidates: Sequence[EvaluatedModel],
    task: Task,
    others: Sequence[SeedLogits] = (),
    compared_only: Mapping[str, Sequence[ArrayOrJagged]] = MappingProxyType({}),
) -> Comparison:
    """Compare the student with teacher, control and linear model, on the same examples.

    Of one seed, interval and p-value count the choice of examples alone. Of several, each seed's
    student is compared with the control of the same seed, and both count the seeds as well.

    Args:
        models: results of :func:`evaluate_models`.
        candidates: the models with their logits.
        task: evaluates the logits.
        others: student and control of further seeds.
        compared_only: logits by role of what is compared beside the candidates: one for each seed,
            or a single one that all seeds share.
    """
    measured = {model.role: model for model in models}
    compared = _ComparedPredictions(candidates, task, others, compared_only)
    paired = {
        role: compared.student_minus(role)
        for role in (Role.TEACHER, Role.CONTROL, *LINEAR_MODELS, *EACH_CONTROL)
        if role in compared.predictions
    }
    to_linear_model = next((paired[role] for role in LINEAR_MODELS if role in paired), None)
    if Role.TEACHER not in measured:
        return Comparison(metric=compared.metric.name, difference_to_words=to_linear_model)
    value, interval = compared.retention()
    teacher, student = measured[Role.TEACHER], measured[Role.STUDENT]
    faster, faster_in = speedup(teacher, student)
    return Comparison(
        metric=compared.metric.name,
        retention=value,
        retention_interval=interval,
        size_ratio=_ratio("parameters", teacher, student),
        speedup=faster,
        speedup_of=faster_in,
        gain_over_control=paired.get(Role.CONTROL),
        difference_to_teacher=paired[Role.TEACHER],
        difference_to_words=to_linear_model,
        gain_over_each_control={
            role.value: paired[role] for role in EACH_CONTROL if role in paired
        },
        means=compared.means() if others else {},
        calibration=_calibration_gains(candidates, task, others),
    )


def repeated_models(
    candidates: Sequence[EvaluatedModel], logits: Mapping[str, ArrayOrJagged], task: Task
) -> dict[str, RepeatedModel]:
    """Measure quality, calibration and fidelity of the models of one of several seeds.

    Args:
        candidates: models of the first seed, whose examples the others have, too.
        logits: of this seed's models by role.
        task: evaluates the logits.
    """
    examples = {candidate.role: candidate.examples for candidate in candidates}
    teacher = next((one for one in candidates if one.role == Role.TEACHER), None)
    return {
        role: RepeatedModel(
            quality=task.evaluator.evaluate(of_role, examples[role]),
            calibration=task.evaluator.calibration(of_role, examples[role].labels) or {},
            fidelity={
                name: value
                for name, value in task.evaluator.fidelity(of_role, teacher.logits).items()
                if value is not None
            }
            if teacher is not None
            else {},
        )
        for role, of_role in logits.items()
        if role in examples
    }


class _ComparedPredictions:
    """Predictions of teacher, student and control, the latter two of one or several seeds.

    Attributes:
        metric: what is compared.
        predictions: by role, of each seed in turn; one of the teacher.
    """

    def __init__(
        self,
        candidates: Sequence[EvaluatedModel],
        task: Task,
        others: Sequence[SeedLogits],
        compared_only: Mapping[str, Sequence[ArrayOrJagged]],
    ):
        evaluator = task.evaluator
        self.metric: Metric = evaluator.selection_metric
        self.predictions: dict[str, list[np.ndarray]] = {}
        for candidate in candidates:
            if candidate.role == Role.STUDENT:
                for role, of_role in compared_only.items():
                    self.predictions[role] = [
                        evaluator.standardize(evaluator.metric_inputs(one, candidate.examples)[0])
                        for one in of_role
                    ]
            logits = [candidate.logits]
            logits += [one.logits[candidate.role] for one in others if candidate.role in one.logits]
            inputs = [evaluator.metric_inputs(of_seed, candidate.examples) for of_seed in logits]
            self.predictions[candidate.role] = [evaluator.standardize(one[0]) for one in inputs]
            if candidate.role == Role.TEACHER or len(candidates) == 1:
                self._labels = inputs[0][1:]
                self._clusters = evaluator.clusters(candidate.examples)
        self.seeds = 1 + len(others)
        (first, *_) = self.predictions[Role.STUDENT]
        resamples = ExampleResamples(len(first), self._clusters)
        flat = [of_seed for of_role in self.predictions.values() for of_seed in of_role]
        rows = iter(resamples.values(self.metric, flat, *self._labels))
        #: the metric on every resample by role, ``(S, R)``
        self._resampled: dict[str, Floats] = {
            role: np.stack([next(rows) for _ in of_role])
            for role, of_role in self.predictions.items()
        }
        self._values: dict[str, Floats] = {
            role: np.array([self.metric(of_seed, *self._labels) for of_seed in of_role])
            for role, of_role in self.predictions.items()
        }

    def student_minus(self, role: str) -> Difference:
        """Return the student's metric minus another role's."""
        if self.seeds == 1:
            found = paired_comparison(
                self.metric.function,
                self.predictions[Role.STUDENT][0],
                self.predictions[role][0],
                *self._labels,
                clusters=self._clusters,
            )
            return Difference(*found, seeds=1, covers=(EXAMPLES,))
        values, resampled = self._of_both(np.subtract, Role.STUDENT, role)
        interval = seeds_interval(values.tolist(), resampled)
        return Difference(*interval, seeds=self.seeds, covers=(SEEDS, EXAMPLES))

    def retention(self) -> tuple[float | None, Range | None]:
        """Return how much of the teacher's metric the student keeps, and its interval."""
        student, teacher = self._values[Role.STUDENT], self._values[Role.TEACHER]
        kept = [
            retention(float(one), float(teacher[0]), self.metric.higher_is_better)
            for one in student
        ]
        known = [one for one in kept if one is not None]
        if len(known) < len(kept):
            return None, None
        value = float(np.mean(known))
        whole = Role.TEACHER if self.metric.higher_is_better else Role.STUDENT
        if (self._resampled[whole] <= 0).any():
            return value, None
        part = Role.STUDENT if self.metric.higher_is_better else Role.TEACHER
        _, resampled = self._of_both(np.divide, part, whole)
        if self.seeds == 1:
            return value, Range(*bias_corrected_ends(resampled[0], value))
        interval = seeds_interval(known, resampled)
        return value, Range(interval.low, interval.high)

    def means(self) -> dict[str, MetricValue]:
        """Return the mean over the seeds of student and control."""
        return {
            role: MetricValue(*seeds_interval(values.tolist(), self._resampled[role])[:3])
            for role, values in self._values.items()
            if len(values) > 1 and role not in EACH_CONTROL
        }

    def _of_both(
        self, combine: Callable[[Floats, Floats], Floats], first: str, second: str
    ) -> tuple[Floats, Floats]:
        """Return a combination of two roles' values ``(S,)``, and of those resampled ``(S, R)``."""
        return (
            combine(self._values[first], self._values[second]),
            combine(self._resampled[first], self._resampled[second]),
        )


def _ratio(name: str, teacher: ModelReport, student: ModelReport) -> float | None:
    """Return how many times smaller a cost of the student is than the teacher's."""
    teacher_cost, student_cost = (quantity(name).read(model) for model in (teacher, student))
    return teacher_cost / student_cost if teacher_cost is not None and student_cost else None


def _size(candidate: EvaluatedModel, task: Task, length: int) -> Size:
    model = candidate.model
    parameters = size.count_parameters(model)
    inputs = task.preprocessor.example_inputs(config_of(model), length)
    return Size(
        parameters=parameters.total,
        parameters_without_embeddings=parameters.without_embeddings,
        bytes=size.size_on_disk(candidate.weight_files, model),
        multiply_accumulates=size.multiply_accumulates(model, inputs),
        sequence_length=length,
    )


def quality_of(
    logits: ArrayOrJagged, examples: DistillationDataset, task: Task
) -> dict[str, MetricValue]:
    """Return every metric of a split's logits with its interval, the main one first."""
    inputs = task.evaluator.metric_inputs(logits, examples)
    clusters = task.evaluator.clusters(examples)
    return {
        name: MetricValue(*bootstrap_interval(metric.function, *inputs, clusters=clusters))
        for name, metric in task.evaluator.metrics.items()
    }


def _per_class(candidate: EvaluatedModel, task: Task) -> dict[str, ClassScores]:
    if not task.evaluator.per_class:
        return {}
    names = [name for _, name in sorted(output_names(config_of(candidate.model)).items())]
    scores = task.evaluator.per_class_scores(candidate.logits, candidate.examples, names)
    return {name: ClassScores.from_dict(class_scores) for name, class_scores in scores.items()}


def _calibration_intervals(candidate: EvaluatedModel, task: Task) -> dict[str, Range]:
    samples = task.evaluator.calibration_samples(candidate.logits, candidate.examples)
    if samples is None:
        return {}
    pairs = np.stack([samples.confidence, samples.correct], axis=1)
    error = calibration_error_interval(pairs, clusters=samples.clusters)
    loss = bootstrap_interval(mean_loss, samples.losses, clusters=samples.clusters)
    return {
        "expected_calibration_error": Range(error.low, error.high),
        "negative_log_likelihood": Range(loss.low, loss.high),
    }


def temperature_of(
    logits: ArrayOrJagged, examples: DistillationDataset, task: Task
) -> float | None:
    """Return the temperature of the least negative log-likelihood on a split.

    ``None`` if no temperature is best, or the logits stand for no distribution over classes.

    Args:
        logits: of every example, as reduced by the task's evaluator.
        examples: the split; not the one that calibration is then measured on.
        task: evaluates the logits.
    """
    found = task.evaluator.categorical_logits(logits, examples)
    return None if found is None else fit_temperature(*found)


def _temperature_scaling(candidate: EvaluatedModel, task: Task) -> TemperatureScaling | None:
    """Measure the calibration of the evaluated split at the model's temperature."""
    found = task.evaluator.categorical_logits(candidate.logits, candidate.examples)
    if found is None or candidate.temperature is None:
        return None
    logits, labels = found
    log_probabilities = log_softmax(np.asarray(logits, np.float64) / candidate.temperature)
    return TemperatureScaling(
        temperature=candidate.temperature,
        expected_calibration_error=expected_calibration_error(np.exp(log_probabilities), labels),
        negative_log_likelihood=negative_log_likelihood(log_probabilities, labels),
    )


def _calibration_gains(
    candidates: Sequence[EvaluatedModel], task: Task, others: Sequence[SeedLogits]
) -> dict[str, Difference]:
    """Compare the student's calibration with the control's, seed by seed."""
    models = {candidate.role: candidate for candidate in candidates}
    if Role.CONTROL not in models:
        return {}
    samples: dict[str, list[CalibrationSamples]] = {}
    for role in (Role.STUDENT, Role.CONTROL):
        logits = [models[role].logits, *(one.logits[role] for one in others)]
        found = [task.evaluator.calibration_samples(one, models[role].examples) for one in logits]
        samples[role] = [one for one in found if one is not None]
    if not samples[Role.STUDENT]:
        return {}
    clusters = samples[Role.STUDENT][0].clusters
    measures: dict[str, tuple[MetricFunction, Callable[[CalibrationSamples], np.ndarray]]] = {
        "expected_calibration_error": (
            binned_error,
            lambda one: np.stack([one.confidence, one.correct], axis=1),
        ),
        "negative_log_likelihood": (mean_loss, lambda one: one.losses),
    }
    gains = {}
    for name, (metric, read) in measures.items():
        student, control = ([read(one) for one in samples[role]] for role in samples)
        if not others:
            paired = paired_comparison(
                metric, student[0], control[0], clusters=clusters, permutations=1999
            )
            gains[name] = Difference(*paired, seeds=1, covers=(EXAMPLES,))
            continue
        values = [metric(one) - metric(two) for one, two in zip(student, control, strict=True)]
        resampled = ExampleResamples(len(student[0]), clusters).values(metric, [*student, *control])
        first, second = np.split(resampled, 2)
        gains[name] = Difference(
            *seeds_interval(values, first - second), seeds=len(values), covers=(SEEDS, EXAMPLES)
        )
    return gains


def _constant_prediction(candidate: EvaluatedModel, task: Task) -> str | None:
    names = [name for _, name in sorted(output_names(config_of(candidate.model)).items())]
    return task.evaluator.constant_prediction(candidate.logits, candidate.examples, names)


def calibration_of(
    logits: ArrayOrJagged, examples: DistillationDataset, task: Task
) -> Calibration | None:
    """Return the calibration of a split's logits; ``None`` if they stand for no probabilities."""
    scores = task.evaluator.calibration(logits, examples.labels)
    return None if scores is None else Calibration(scores)
