"""One label for a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from distill.answers.classes import ClassReader
from distill.baselines.constant import LargestClass
from distill.baselines.words import Words
from distill.core.errors import UserError
from distill.data.columns import describe_type, distinct_values
from distill.data.dataset import DistillationDataset
from distill.data.label_cleaning import label_text
from distill.data.labels import IGNORED_LABEL
from distill.data.schema import LABEL, Column, DataSchema, TextInput
from distill.data.text_preprocessor import TextPreprocessor
from distill.metrics import classification
from distill.metrics.base import Metric
from distill.modeling.head import Head
from distill.objectives.criterion import Criterion, Distribution
from distill.tasks import class_labels
from distill.tasks.base import Task
from distill.tasks.evaluator import CalibrationSamples, Evaluator, PerClass


class SequenceClassification(Task):
    """Single-label classification of texts and pairs of texts.

    Args:
        metric: ``accuracy``, ``macro_f1`` or ``matthews_correlation``: what early stopping, the
            best checkpoint and the report's conclusion go by.
        per_class: whether to report precision, recall and F1 of every class.

    Raises:
        UserError: for a metric that does not exist.
    """

    def __init__(self, metric: str = "accuracy", per_class: bool = False):
        name = "sequence_classification"
        super().__init__(
            name=name,
            schema=SingleLabelSchema(name),
            preprocessor=TextPreprocessor(name),
            head=SequenceClassificationHead(),
            criterion=CrossEntropyCriterion(),
            evaluator=ClassificationEvaluator(metric, per_class),
            baselines=(LargestClass(), Words("categorical")),
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> ClassReader:
        """Return the reader of a class."""
        return ClassReader(names, columns=columns, **settings)


class TextPairSchema(DataSchema):
    """A text, an optional second text and a label."""

    columns: Mapping[str, Column] = {
        "text": Column(("text",), TextInput()),
        "text_pair": Column(("text_pair",), TextInput(), optional=True),
        LABEL: Column(("label",)),
    }


class SingleLabelSchema(TextPairSchema):
    """One class per example."""

    categorical: ClassVar[bool] = True

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return the classes in the order of their ids; see :func:`class_labels.class_names`.

        Raises:
            UserError: for fewer than two classes, or a label that ``given`` lacks.
        """
        feature = splits["train"].features[LABEL]
        if hasattr(feature, "feature"):
            raise UserError(
                "the labels are lists: task=multi_label is for examples with any number of labels"
            )
        if (kind := describe_type(feature)) == "records":
            fields = ", ".join(feature) if isinstance(feature, Mapping) else ""
            hint = f": data.label=COLUMN.FIELD names one of {fields}" if fields else ""
            raise UserError(f"the column of data.label holds {kind}, not classes{hint}")
        present = {
            str(value)
            for split in ("train", "validation")
            for value in distinct_values(splits[split], LABEL)[0]
            if label_text(value) is not None
        }
        if len(present) < 2:
            raise UserError(
                f"the data have one class only ({', '.join(present) or 'no labels'}): "
                "there is nothing to classify"
            )
        return class_labels.class_names(feature, present, given)

    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> np.ndarray:
        """Return the labels of a split as class ids, ``(N,)``.

        Raises:
            UserError: for a label that is missing or not a class.
        """
        labels, indices = distinct_values(rows, LABEL)
        first = [labels[index] for index in indices[:100]]
        ids = class_labels.label_ids(rows.features[LABEL], first, names)
        known = np.array([ids.get(str(label), -1) for label in labels], dtype=np.int64)
        targets: np.ndarray = known[indices]
        if (targets < 0).any():
            row = int(np.argmax(targets < 0))
            label = labels[indices[row]]
            if label_text(label) is None:
                raise UserError(
                    f"{split} row {row + 1} has no label: data.drop_unlabeled=true leaves such "
                    "rows out"
                )
            raise UserError(
                f"{split} row {row + 1} has the label '{label}', which train does not have "
                f"({class_labels.preview(names)}){class_labels.similar_name_hint(label, names)}"
            )
        return targets

    def missing_label(self, names: Sequence[str]) -> int:
        """Return the id that losses and metrics ignore."""
        return IGNORED_LABEL

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the classes."""
        return f"{len(names)} classes"


class SequenceClassificationHead(Head):
    """A linear layer over the pooled first token, one output per class."""

    auto_model = AutoModelForSequenceClassification
    architectures = ("ForSequenceClassification",)
    problem_type = "single_label_classification"
    # None: classification is what most checkpoints without a problem_type were trained for.
    accepted_problem_types = (None, "single_label_classification")

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Match the classes by name."""
        return class_labels.head_order(model_names, names)

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set the bias to the log of each class's share of the labels."""
        class_labels.start_at_log_prior(output, labels)


class CrossEntropyCriterion(Criterion):
    """Softmax over the classes, cross-entropy on labels."""

    distribution: ClassVar[Distribution] = "categorical"

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`class_labels.cross_entropy`; ``(N, C)``, ``(N,)`` -> scalar."""
        return class_labels.cross_entropy(logits, labels)


class ClassificationEvaluator(Evaluator[np.ndarray]):
    """Accuracy, macro F1 and Matthews correlation of class ids."""

    selection_metrics = ("accuracy", "macro_f1", "matthews_correlation")

    @property
    def all_metrics(self) -> list[Metric]:
        """Metrics of predicted against true class ids."""
        return [Metric(name, getattr(classification, name)) for name in self.selection_metrics]

    def metric_inputs(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted and true class ids, ``(N,)`` each."""
        return logits.argmax(axis=-1), examples.label_values

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return the calibration of the distribution over the classes."""
        return class_labels.classification_calibration(logits, labels)

    def calibration_samples(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> CalibrationSamples:
        """Return one prediction of each example."""
        return CalibrationSamples.from_logits(logits, examples.label_values)

    def categorical_logits(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the distribution over the classes of each example."""
        return logits, examples.label_values

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
        """Return the share of equal predictions and the KL divergence to the teacher."""
        return class_labels.classification_fidelity(logits, teacher)

    def constant_prediction(
        self, logits: np.ndarray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return the only class that is predicted."""
        return class_labels.constant_class(logits.argmax(axis=-1), names)

    def per_class_scores(
        self, logits: np.ndarray, examples: DistillationDataset, names: Sequence[str]
    ) -> PerClass:
        """Return the scores of each class against all others."""
        classes = np.arange(len(names))
        predicted = logits.argmax(axis=-1)[:, None] == classes
        labeled = np.asarray(examples.label_values)[:, None] == classes
        return classification.per_class_scores(predicted, labeled, names)
