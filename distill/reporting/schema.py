"""The report of one run as typed objects, and the only place that knows the keys of report.json.

A key is the name of a field, and keys stand in the order of the fields. Every key is written,
``null`` where it does not apply. Keys that this version does not know are kept, keys that an older
report lacks are read as ``None``. Numbers that do not exist are ``None`` here and ``null`` in the
file, never NaN: the file is strict JSON.

To report a further quantity, add a field here and an entry in :mod:`distill.reporting.quantities`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from distill.core.checksums import DamagedError, check_file, read_checksums
from distill.reporting.files import write_text
from distill.reporting.record import Record, ReportError, Scores

SCHEMA = 1
FILE_NAME = "report.json"


class Role(StrEnum):
    """Roles that models have in every run; variants are named after them, ``student_int8``.

    ``majority``, ``words`` and ``pixels`` are baselines: the same answer to everything (the largest
    class, the mean, the commonest labels), and a linear model on words or, of images, on pixels.
    Where two controls were trained, ``control`` is the better one on validation, and each of them
    has one of the last two roles.
    """

    TEACHER = "teacher"
    STUDENT = "student"
    CONTROL = "control"
    MAJORITY = "majority"
    WORDS = "words"
    PIXELS = "pixels"
    CONTROL_EQUAL_STEPS = "control_equal_steps"
    CONTROL_USUAL_LENGTH = "control_usual_length"


LINEAR_MODELS = (Role.WORDS, Role.PIXELS)
BASELINES = (Role.MAJORITY, *LINEAR_MODELS)
EACH_CONTROL = (Role.CONTROL_EQUAL_STEPS, Role.CONTROL_USUAL_LENGTH)


@dataclass(frozen=True)
class RunInfo(Record):
    """Name, time, seed and command line of a run; ``directory`` is where it wrote its files."""

    name: str
    directory: str | None = None
    started: str | None = None
    seconds: float | None = None
    seed: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataInfo(Record):
    """The data of a run.

    Attributes:
        name: Name of the data set.
        fingerprint: Hash of the evaluated examples; runs with equal ones can be compared.
        examples: Number of examples of each split; ``test`` is the evaluated one.
        evaluated_on: The source's name of the evaluated split.
        labels: Names of the model's outputs.
        notes: Remarks on how the data were prepared.
    """

    name: str
    fingerprint: str | None = None
    examples: Mapping[str, int] = field(default_factory=dict)
    evaluated_on: str | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def evaluated_examples(self) -> int | None:
        """The number of examples of the evaluated split."""
        return self.examples.get("test")


@dataclass(frozen=True)
class Environment(Record):
    """Versions and hardware."""

    distill: str | None = None
    python: str | None = None
    torch: str | None = None
    transformers: str | None = None
    pytorch_lightning: str | None = None
    processor: str | None = None
    threads: int | None = None
    processes: int | None = None
    accelerator: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Size(Record):
    """The size of a model; ``multiply_accumulates`` are of one example of ``sequence_length``."""

    parameters: int | None = None
    parameters_without_embeddings: int | None = None
    bytes: int | None = None
    multiply_accumulates: int | None = None
    sequence_length: int | None = None


@dataclass(frozen=True)
class Latency(Record):
    """Milliseconds for one example: median and 95th percentile over the examples."""

    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Speed(Record):
    """The speed of a model.

    Attributes:
        latency_ms: One example at a time with one thread, each by the fastest of its rounds.
        latency_ms_median_round: The same, each example by the median of its rounds.
        cpu_ms: Processor time, each example by its least; ``None`` where a GPU does the work.
        examples_per_second: In batches of ``batch_size`` with ``threads`` threads.
        batch_size: Of the throughput.
        threads: Of the throughput.
        runtime: Library, device and precision.
        peak_memory_bytes: Of the weights and the tensors alive at once in a forward pass.
    """

    latency_ms: Latency | None = None
    latency_ms_median_round: Latency | None = None
    cpu_ms: Latency | None = None
    examples_per_second: float | None = None
    batch_size: int | None = None
    threads: int | None = None
    runtime: str | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class MetricValue(Record):
    """A metric with its 95 % interval; the ends are ``None`` where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassScores(Record):
    """Scores of one class and its number of examples."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    support: int | None = None


class Calibration(Scores):
    """How far a model's probabilities can be relied on."""

    @property
    def expected_calibration_error(self) -> float | None:
        """The mean distance between confidence and accuracy."""
        return self.get("expected_calibration_error")

    @property
    def negative_log_likelihood(self) -> float | None:
        """The mean negative log-likelihood of the labels, in nats."""
        return self.get("negative_log_likelihood")


@dataclass(frozen=True)
class TemperatureScaling(Record):
    """Calibration after all logits are divided by one temperature (Guo et al. 2017).

    Attributes:
        temperature: That of the least negative log-likelihood on the validation split; above 1, the
            model is too sure of itself. Predictions remain the same.
        expected_calibration_error: On the evaluated split, at this temperature.
        negative_log_likelihood: The same, in nats.
    """

    temperature: float | None = None
    expected_calibration_error: float | None = None
    negative_log_likelihood: float | None = None


class Fidelity(Scores):
    """How near a model's predictions are to the teacher's."""

    @property
    def agreement(self) -> float | None:
        """The fraction of examples with the same prediction."""
        return self.get("agreement")

    @property
    def kl_divergence(self) -> float | None:
        """The mean KL divergence from the teacher's distribution, in nats."""
        return self.get("kl_divergence")

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation with the teacher's numbers."""
        return self.get("correlation")


@dataclass(frozen=True)
class ModelReport(Record):
    """One model with everything that was measured of it.

    Attributes:
        role: One of :class:`Role`, or a variant such as ``student_int8``.
        name: Name of the model.
        size: ``None`` where it was not measured.
        speed: ``None`` where it was not measured.
        quality: The task's metrics by name, the main one first.
        per_class: Scores of each class; empty unless they were asked for.
        calibration: ``None`` where the model has no probabilities.
        fidelity: ``None`` for the teacher itself.
        constant_prediction: What the model predicts where it predicts nothing else, in words,
            ``the class positive for every example``.
        calibration_intervals: 95 % intervals of the measures of calibration that have one.
        temperature_scaling: ``None`` for baselines, for tasks without a distribution over classes
            and where no temperature fits validation best, see :func:`.calibration.fit_temperature`.
    """

    role: str
    name: str | None = None
    size: Size | None = None
    speed: Speed | None = None
    quality: Mapping[str, MetricValue] = field(default_factory=dict)
    per_class: Mapping[str, ClassScores] = field(default_factory=dict)
    calibration: Calibration | None = None
    fidelity: Fidelity | None = None
    constant_prediction: str | None = None
    calibration_intervals: Mapping[str, Range] = field(default_factory=dict)
    temperature_scaling: TemperatureScaling | None = None

    @property
    def is_teacher(self) -> bool:
        """Whether this is the teacher."""
        return self.role == Role.TEACHER

    def metric(self, name: str | None) -> MetricValue:
        """Return a metric of quality; without a value where it was not measured."""
        return self.quality.get(name or "", MetricValue())

    @property
    def scores(self) -> dict[str, float | None]:
        """Values of quality, calibration and fidelity by name."""
        quality = {name: metric.value for name, metric in self.quality.items()}
        return {**quality, **(self.calibration or {}), **(self.fidelity or {})}


EXAMPLES, SEEDS = "examples", "seeds"
"""What an interval counts as luck: the choice of test examples, the seed of the training."""


@dataclass(frozen=True)
class Difference(Record):
    """A paired difference on the same examples, with 95 % interval and two-sided p-value.

    Attributes:
        value: The mean over the seeds.
        low: Lower end of the interval; ``None`` where there is none.
        high: Upper end.
        p_value: Of the test that the difference is 0.
        seeds: Number of seeds that both models were trained on; ``None`` in older reports: one.
        covers: What interval and p-value count, ``examples`` and, of several seeds, ``seeds``.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    seeds: int | None = None
    covers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Range(Record):
    """The ends of a 95 % interval."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison(Record):
    """The student against teacher and control.

    Attributes:
        metric: The task's main metric, in which they are compared.
        retention: The student's metric over the teacher's, or the teacher's over the student's
            where lower is better; of several seeds, the mean.
        retention_interval: Its 95 % interval, over what ``difference_to_teacher`` covers.
        size_ratio: The teacher's parameters over the student's.
        speedup: The teacher's time for one example over the student's.
        speedup_of: Name of the quantity that ``speedup`` compares: ``latency_ms``, or ``cpu_ms``
            (processor time) where other programs interrupted the measurement.
        gain_over_control: Metric of the student minus that of the control, both of each seed.
        difference_to_teacher: Metric of the student minus that of the teacher. There is one
            teacher: that another training of it may be better or worse is not counted.
        difference_to_words: Metric of the student minus that of the linear model on words or, of
            images, on pixels.
        gain_over_each_control: The same gain by role where two controls were trained, of which the
            better one on validation is the control.
        means: The metric of each role, the mean over the seeds with an interval that counts seeds
            and examples; empty where there is one seed.
        calibration: The student's expected calibration error and negative log-likelihood minus the
            control's.
    """

    metric: str | None = None
    retention: float | None = None
    retention_interval: Range | None = None
    size_ratio: float | None = None
    speedup: float | None = None
    speedup_of: str | None = None
    gain_over_control: Difference | None = None
    difference_to_teacher: Difference | None = None
    difference_to_words: Difference | None = None
    gain_over_each_control: Mapping[str, Difference] = field(default_factory=dict)
    means: Mapping[str, MetricValue] = field(default_factory=dict)
    calibration: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing(Record):
    """Wall seconds of each part of a run; 0 for what was reused."""

    teacher_fine_tune: float | None = None
    teacher_outputs: float | None = None
    student: float | None = None
    control: float | None = None
    measure: float | None = None
    baselines: float | None = None


@dataclass(frozen=True)
class Reused(Record):
    """What was taken from the cache."""

    teacher: bool | None = None
    teacher_outputs: bool | None = None
    control: bool | None = None
    baselines: bool | None = None


@dataclass(frozen=True)
class Training(Record):
    """The course of one training.

    Attributes:
        best: Best value of the task's metric on validation.
        best_epoch: Epoch that reached it, counted from 1.
        epochs: Epochs that were run.
        seconds: Wall time.
    """

    best: float | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class RepeatedModel(Record):
    """A model of one seed: the values of its metrics, and the course of its training."""

    quality: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)
    fidelity: Mapping[str, float] = field(default_factory=dict)
    training: Training | None = None


@dataclass(frozen=True)
class Repeat(Record):
    """One of several seeds that student and control were trained on.

    Attributes:
        seed: Of both.
        models: Student and control by role.
    """

    seed: int
    models: Mapping[str, RepeatedModel] = field(default_factory=dict)


@dataclass(frozen=True)
class Report(Record):
    """The report of one run, the content of report.json.

    ``baselines`` have the form of ``models`` and one of the roles :data:`BASELINES`.

    >>> report = Report.from_dict({
    ...     "schema": 1, "run": {"name": "half"}, "task": "regression", "data": {"name": "stsb"},
    ...     "models": [{"role": "student", "quality": {"pearson": {"value": 0.87}}}],
    ... })
    >>> report.student.quality["pearson"].value
    0.87
    """

    schema: int
    run: RunInfo
    task: str
    data: DataInfo
    environment: Environment | None = None
    models: tuple[ModelReport, ...] = field(kw_only=True)
    baselines: tuple[ModelReport, ...] = ()
    comparison: Comparison | None = None
    timing: Timing | None = None
    reused: Reused | None = None
    training: Mapping[str, Training] = field(default_factory=dict)
    repeats: tuple[Repeat, ...] = ()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: str = "") -> Self:
        """Read the content of report.json.

        Raises:
            ReportError: It is of another schema, or a required key is missing.
        """
        schema = content.get("schema") if isinstance(content, Mapping) else None
        if schema is not None and schema != SCHEMA:
            raise ReportError(f"has schema {schema}, expected {SCHEMA}")
        return super().from_dict(content, path)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a file.

        Raises:
            ReportError: It is damaged, of another schema, or not a report; without its path.
        """
        try:
            _check(file)
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except ReportError:
            raise
        except (IsADirectoryError, NotADirectoryError, RecursionError) as error:
            raise ReportError("is no report") from error
        except ValueError as error:
            raise ReportError(f"is not JSON: {error}") from error

    def write(self, path: Path) -> None:
        """Write report.json; a reader never sees a part of it."""
        content = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(path, content + "\n")

    def model(self, role: str) -> ModelReport | None:
        """Return the first model or baseline with this role."""
        return next((model for model in self.measured if model.role == role), None)

    @property
    def measured(self) -> tuple[ModelReport, ...]:
        """The models, and after them the baselines."""
        return (*self.models, *self.baselines)

    @property
    def teacher(self) -> ModelReport | None:
        """The teacher."""
        return self.model(Role.TEACHER)

    @property
    def student(self) -> ModelReport | None:
        """The student."""
        return self.model(Role.STUDENT)

    @property
    def control(self) -> ModelReport | None:
        """The same student trained without the teacher."""
        return self.model(Role.CONTROL)

    @property
    def main_metric(self) -> str | None:
        """The metric that the comparison is made in, or the first one measured."""
        named = self.comparison.metric if self.comparison else None
        return named or next((name for model in self.models for name in model.quality), None)

    @property
    def gain_over_control(self) -> Difference:
        """The paired difference to the control; without a value where there is none."""
        found = self.comparison.gain_over_control if self.comparison else None
        return found or Difference()

    @property
    def difference_to_teacher(self) -> Difference:
        """The paired difference to the teacher; without a value where there is none."""
        found = self.comparison.difference_to_teacher if self.comparison else None
        return found or Difference()

    @property
    def difference_to_words(self) -> Difference:
        """The paired difference to the linear model; without a value where there is none."""
        found = self.comparison.difference_to_words if self.comparison else None
        return found or Difference()

    def __str__(self) -> str:
        from distill.reporting.run_table import overview

        return overview(self)

    def _repr_markdown_(self) -> str:
        from distill.reporting.run_table import markdown_overview

        return markdown_overview(self)


def _check(file: Path) -> None:
    """Compare a run's report with its checksum, if it has one.

    Raises:
        ReportError: It differs.
    """
    try:
        expected = (read_checksums(file.parent) or {}).get(file.name)
        if expected is not None:
            check_file(file, expected)
    except DamagedError as damage:
        raise ReportError(f"is damaged ({damage})") from damage


def load_report(path: Path | str) -> Report:
    """Read report.json of a run.

    Args:
        path: The run's folder or the file itself.

    Raises:
        ReportError: The file is missing, damaged, or of another schema.
    """
    file = Path(path)
    if file.is_dir():
        file /= FILE_NAME
    try:
        return Report.read(file)
    except FileNotFoundError:
        raise ReportError(f"there is no {file}: give the folder of a finished run") from None
    except ReportError as error:
        raise ReportError(f"{file} {error}") from error
