"""The measured quantities: each is declared once, and tables, figures and limits follow from it.

A measured quantity takes a field of :mod:`distill.reporting.schema`, the code that measures it, and
an entry here. Metrics need no entry unless lower is better or they are written in another way: an
unknown name is a metric of quality, better when higher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from distill.reporting import text

if TYPE_CHECKING:
    from distill.reporting.schema import Latency, ModelReport

Kind = Literal["size", "speed", "quality", "fitted", "calibration", "fidelity", "comparison"]
INTERRUPTED = 1.05  # wall over processor time from which other programs are to blame
CORRELATIONS = ("pearson", "spearman", "matthews_correlation")
SCORES: tuple[Kind, ...] = ("quality", "calibration", "fidelity")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured quantity of a model.

    Attributes:
        name: As options, CSV columns and TensorBoard tags spell it.
        kind: Section of the report that holds it.
        reader: Finds the value in a model's report; None: among its scores, by name.
        title: In sentences and on axes; None: the name in words.
        unit: Of the value, if any.
        higher_is_better: Direction in which it improves.
        is_cost: Whether it can be the cost that a Pareto front trades for quality.
        format: Writes the value.
        column: Heading in tables with a line for each model; None: no column.
        drop_order: In the comparison's table, columns with the highest number are left out first
            where the terminal is narrow; 0: never. None: not in that table.
        row: Heading in report.md, where models are columns; a function of the models where it
            depends on how they were measured. None: no row.
        cell: Writes the cell in report.md; None: ``format`` of the value.
        tag: First part of its tag in TensorBoard; None: it has none.
    """

    name: str
    kind: Kind = "quality"
    reader: Callable[[ModelReport], float | None] | None = None
    title: str | None = None
    unit: str = ""
    higher_is_better: bool = True
    is_cost: bool = False
    format: Callable[[float | None], str] = text.score
    column: str | None = None
    drop_order: int | None = None
    row: str | Callable[[Sequence[ModelReport]], str | None] | None = None
    cell: Callable[[ModelReport], str] | None = None
    tag: Literal["final", "measures"] | None = None

    def read(self, model: ModelReport) -> float | None:
        """Return the value of a model, None where it was not measured."""
        return self.reader(model) if self.reader else model.scores.get(self.name)

    @property
    def label(self) -> str:
        """The name for reading: ``latency_ms`` -> ``latency``."""
        return text.words(self.name) if self.title is None else self.title

    @property
    def axis_label(self) -> str:
        """The name with the unit: ``latency, ms``."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def row_heading(self, models: Sequence[ModelReport]) -> str | None:
        """Return the heading of the row in report.md."""
        return self.row(models) if callable(self.row) else self.row

    def row_cell(self, model: ModelReport) -> str:
        """Return a model's cell in report.md."""
        return self.cell(model) if self.cell else self.format(self.read(model))

    def is_better(self, value: float, other: float) -> bool:
        """Whether ``value`` is better than ``other``."""
        return value > other if self.higher_is_better else value < other

    def retention(self, student: float | None, teacher: float | None) -> float | None:
        """Return how much of the teacher's quality the student keeps."""
        return retention(student, teacher, self.higher_is_better)

    @property
    def is_correlation(self) -> bool:
        """Whether the values are correlations of predictions and labels, from -1 to 1."""
        return self.name in CORRELATIONS

    @property
    def in_points(self) -> bool:
        """Whether differences are written in points (hundredths).

        Metrics that are better when higher are at most 1; errors and losses have no upper bound.
        Correlations are not hundredths of anything.
        """
        return self.higher_is_better and not self.is_correlation

    @property
    def difference_unit(self) -> str:
        """The unit of differences, with a space before it."""
        return " points" if self.in_points else ""

    def difference(
        self, value: float | None, low: float | None = None, high: float | None = None
    ) -> str:
        """Write a difference with its interval: ``+0.3 [−0.9, +1.5]``, all with equal digits."""
        digits = text.difference_digits((value, low, high), self.in_points)
        written = text.difference(value, self.in_points, digits)
        if low is None or high is None:
            return written
        ends = (text.difference(end, self.in_points, digits) for end in (low, high))
        return f"{written} [{', '.join(ends)}]"


def retention(student: float | None, teacher: float | None, higher_is_better: bool) -> float | None:
    """Return how much of the teacher's quality the student keeps.

    The student's value over the teacher's, or the teacher's over the student's where lower is
    better; None without a positive divisor.
    """
    if student is None or teacher is None:
        return None
    kept, whole = (student, teacher) if higher_is_better else (teacher, student)
    return kept / whole if whole > 0 else None


def speedup(teacher: ModelReport, student: ModelReport) -> tuple[float | None, str | None]:
    """Return how many times faster the student is, and the name of the quantity that says so.

    That is the latency, unless other programs have interrupted one of the models: then the time
    that the processor spent on it. A long forward pass is interrupted more often than a short one.
    """
    latency, processor = (quantity(name) for name in ("latency_ms", "cpu_ms"))
    interrupted = is_interrupted(teacher) or is_interrupted(student)
    known = all(processor.read(model) for model in (teacher, student))
    measured = processor if interrupted and known else latency
    of_teacher, of_student = measured.read(teacher), measured.read(student)
    if of_teacher is None or not of_student:
        return None, None
    return of_teacher / of_student, measured.name


def is_interrupted(model: ModelReport) -> bool:
    """Whether wall time exceeds processor time by more than the clocks' inaccuracy."""
    wall, processor = (quantity(name).read(model) for name in ("latency_ms", "cpu_ms"))
    return wall is not None and processor is not None and wall > INTERRUPTED * processor


def _size(name: str) -> Callable[[ModelReport], float | None]:
    return lambda model: getattr(model.size, name, None)


def _speed(name: str) -> Callable[[ModelReport], float | None]:
    return lambda model: getattr(model.speed, name, None)


def _scaled(name: str) -> Callable[[ModelReport], float | None]:
    return lambda model: getattr(model.temperature_scaling, name, None)


def _latency(model: ModelReport) -> Latency | None:
    return model.speed.latency_ms if model.speed else None


def _multiply_accumulates_heading(models: Sequence[ModelReport]) -> str:
    lengths = {m.size.sequence_length for m in models if m.size} - {None}
    at_length = f" at {lengths.pop()} tokens" if len(lengths) == 1 else ""
    return f"multiply-accumulates{at_length}"


def _latency_cell(model: ModelReport) -> str:
    return _percentiles(_latency(model))


def _processor_time(model: ModelReport) -> Latency | None:
    return model.speed.cpu_ms if model.speed else None


def _processor_time_heading(models: Sequence[ModelReport]) -> str | None:
    """A row of its own only where it differs from the latency."""
    is_shown = any(is_interrupted(model) for model in models)
    return "processor time p50 / p95, ms" if is_shown else None


def _percentiles(times: Latency | None) -> str:
    p50, p95 = (getattr(times, key, None) for key in ("p50", "p95"))
    if p50 is None and p95 is None:
        return text.ABSENT
    return f"{text.significant(p50)} / {text.significant(p95)}"


# In the order of tables and CSV columns; metrics of quality stand between speed and calibration.
_DECLARED = (
    Quantity(
        name="parameters",
        kind="size",
        reader=_size("parameters"),
        higher_is_better=False,
        is_cost=True,
        format=text.short,
        column="parameters",
        drop_order=1,
        row="parameters",
        tag="final",
    ),
    Quantity(
        name="parameters_without_embeddings",
        kind="size",
        reader=_size("parameters_without_embeddings"),
        higher_is_better=False,
        format=text.short,
        row="without embeddings",
    ),
    Quantity(
        name="bytes",
        kind="size",
        reader=_size("bytes"),
        higher_is_better=False,
        is_cost=True,
        format=text.megabytes,
        column="MB",
        drop_order=6,
        row="size on disk, MB",
        tag="measures",
    ),
    Quantity(
        name="multiply_accumulates",
        kind="size",
        reader=_size("multiply_accumulates"),
        higher_is_better=False,
        is_cost=True,
        format=text.short,
        column="MACs",
        drop_order=7,
        row=_multiply_accumulates_heading,
        tag="final",
    ),
    Quantity(
        name="latency_ms",
        kind="speed",
        reader=lambda model: getattr(_latency(model), "p50", None),
        title="latency",
        unit="ms",
        higher_is_better=False,
        is_cost=True,
        format=text.significant,
        column="ms",
        drop_order=2,
        row="latency p50 / p95, ms",
        cell=_latency_cell,
        tag="final",
    ),
    Quantity(
        name="latency_ms_p95",
        kind="speed",
        reader=lambda model: getattr(_latency(model), "p95", None),
        title="latency p95",
        unit="ms",
        higher_is_better=False,
        format=text.significant,
    ),
    Quantity(
        name="cpu_ms",
        kind="speed",
        reader=lambda model: getattr(_processor_time(model), "p50", None),
        title="processor time",
        unit="ms",
        higher_is_better=False,
        is_cost=True,
        format=text.significant,
        row=_processor_time_heading,
        cell=lambda model: _percentiles(_processor_time(model)),
    ),
    Quantity(
        name="examples_per_second",
        kind="speed",
        reader=_speed("examples_per_second"),
        format=text.significant,
        column="examples/s",
        row="examples/s",
        tag="measures",
    ),
    Quantity(
        name="peak_memory_bytes",
        kind="speed",
        reader=_speed("peak_memory_bytes"),
        higher_is_better=False,
        format=text.megabytes,
        row="peak memory, MB",
    ),
    *(
        Quantity(name=name, higher_is_better=False)
        for name in (
            "perplexity",
            "loss",
            "mean_squared_error",
            "mean_absolute_error",
            "root_mean_squared_error",
            "hamming_loss",
        )
    ),
    Quantity(
        name="retention",
        kind="comparison",
        format=text.percent,
        column="retention",
        drop_order=3,
    ),
    Quantity(
        name="speedup",  # of a row of a comparison: by :func:`speedup`
        kind="comparison",
        title="speed-up",
        format=text.significant,
    ),
    Quantity(
        name="expected_calibration_error",
        kind="calibration",
        higher_is_better=False,
        column="ECE",
        drop_order=8,
        row="expected calibration error",
    ),
    Quantity(
        name="negative_log_likelihood",
        kind="calibration",
        higher_is_better=False,
        row="negative log-likelihood",
    ),
    Quantity(
        name="temperature",
        kind="fitted",  # neither good nor bad
        reader=_scaled("temperature"),
        title="temperature of the logits",
        format=text.significant,
        row="temperature fitted on validation",
    ),
    Quantity(
        name="scaled_expected_calibration_error",
        kind="calibration",
        reader=_scaled("expected_calibration_error"),
        title="expected calibration error at the fitted temperature",
        higher_is_better=False,
        row="expected calibration error at it",
    ),
    Quantity(
        name="scaled_negative_log_likelihood",
        kind="calibration",
        reader=_scaled("negative_log_likelihood"),
        title="negative log-likelihood at the fitted temperature",
        higher_is_better=False,
        row="negative log-likelihood at it",
    ),
    Quantity(name="correlation", kind="fidelity", row="correlation with the teacher"),
    Quantity(
        name="agreement",
        kind="fidelity",
        column="agreement",
        drop_order=9,
        row="agreement with the teacher",
    ),
    Quantity(
        name="kl_divergence",
        kind="fidelity",
        higher_is_better=False,
        row="KL divergence from the teacher",
    ),
)
_REGISTRY: dict[str, Quantity] = {}
QUANTITIES: Mapping[str, Quantity] = MappingProxyType(_REGISTRY)
"""All declared quantities by name."""


def register_quantity(declared: Quantity) -> Quantity:
    """Declare a quantity.

    Raises:
        ValueError: The name is taken.
    """
    if declared.name in _REGISTRY:
        raise ValueError(f"a quantity named {declared.name} is declared already")
    _REGISTRY[declared.name] = declared
    return declared


def quantity(name: str | None) -> Quantity:
    """Return the quantity of this name; of an unknown name, a metric that is better when higher."""
    return _REGISTRY.get(name or "") or Quantity(name=name or "")


def of_kinds(*kinds: Kind) -> list[Quantity]:
    """Return the declared quantities of some kinds, in order."""
    return [declared for declared in _REGISTRY.values() if declared.kind in kinds]


def costs() -> list[str]:
    """Return the names of everything that a deployment pays for."""
    return [declared.name for declared in _REGISTRY.values() if declared.is_cost]


for _quantity in _DECLARED:
    register_quantity(_quantity)
