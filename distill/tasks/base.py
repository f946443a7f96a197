"""A task: five parts, each asked by one part of the program.

=================  ============================================  ==========================
part               says                                          asked by
=================  ============================================  ==========================
``schema``         columns, labels, targets                      data preparation
``preprocessor``   how rows become model inputs                  encoding, batches
``head``           output layer: loading, names, initialization  teacher, student
``criterion``      loss on labels, meaning of logits             objective, training
``evaluator``      metrics, calibration, fidelity                validation, evaluation
=================  ============================================  ==========================

Beside them it may name baselines (:mod:`distill.baselines`), which its models are compared with.
How answers read, for predictions, is said by :meth:`Task.answer_reader`.
A new task is a file that composes these parts; see ``sequence_classification`` for a short one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.answers.base import AnswerReader
from distill.baselines.base import Baseline
from distill.core.errors import UserError
from distill.data.encode import SplitEncoder
from distill.data.prepare import PreparedData
from distill.data.preprocessor import Preprocessor
from distill.data.schema import DataSchema
from distill.modeling.head import Head
from distill.objectives.criterion import Criterion
from distill.tasks.evaluator import Evaluator


class Task:
    """A task, composed of its parts.

    Args:
        name: name in configurations, reports and cache keys.
        schema: columns and labels.
        preprocessor: encoding of rows.
        head: output layer.
        criterion: loss on hard labels and meaning of logits.
        evaluator: metrics.
        baselines: what its models are compared with beside each other, if anything.
        min_steps: smallest number of training steps of teacher and student where nobody says how
            long they train; ``None``: the usual number of epochs is enough.

    Raises:
        UserError: for a smallest number of steps below 1.
        TypeError: if a part is missing methods or is not of its class.
    """

    def __init__(
        self,
        *,
        name: str,
        schema: DataSchema,
        preprocessor: Preprocessor[Any],
        head: Head,
        criterion: Criterion,
        evaluator: Evaluator[Any],
        baselines: Sequence[Baseline] = (),
        min_steps: int | None = None,
    ):
        if min_steps is not None and min_steps < 1:
            raise UserError(f"task.min_steps={min_steps}: it must be 1 or more, or null")
        for part, kind in (
            (schema, DataSchema), (preprocessor, Preprocessor), (head, Head),
            (criterion, Criterion), (evaluator, Evaluator),
            *((baseline, Baseline) for baseline in baselines),
        ):  # fmt: skip
            if not isinstance(part, kind):
                raise TypeError(f"task {name}: {part!r} is not a {kind.__name__}")
        self.name, self.schema, self.preprocessor = name, schema, preprocessor
        self.head, self.criterion, self.evaluator = head, criterion, evaluator
        self.min_steps = min_steps
        self.baselines = {baseline.role: baseline for baseline in baselines}

    def encoder(self, data: PreparedData, cache_dir: Path) -> SplitEncoder:
        """Return an encoder of prepared data for any model of the task."""
        return SplitEncoder(data, self.schema, self.preprocessor, cache_dir)

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> AnswerReader:
        """Return how records of the task and their answers read.

        Args:
            names: of the model's outputs.
            columns: names of each input by role.
            **settings: further arguments of the reader, such as its temperature.

        Raises:
            UserError: for a task that does not say.
        """
        raise UserError(f"task={self.name} does not say how its answers read")

    @property
    def token_level(self) -> bool:
        """Whether logits belong to single tokens."""
        return self.preprocessor.token_level

    @property
    def training_settings(self) -> dict[str, Any]:
        """Settings that change the result of a training, for cache keys."""
        return self.preprocessor.training_settings | self.evaluator.training_settings

    def __repr__(self) -> str:
        return f"{type(self).__name__}(metric={self.evaluator.metric_name!r})"
