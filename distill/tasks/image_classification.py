"""One class for an image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import AutoModelForImageClassification

from distill.baselines.constant import LargestClass
from distill.baselines.pixels import Pixels
from distill.data.dataset import DistillationDataset
from distill.data.image_preprocessor import ImagePreprocessor
from distill.data.images import ImageInput, as_cells
from distill.data.schema import LABEL, Column
from distill.metrics.base import Metric
from distill.metrics.ranked import GUESSES, of_predictions, ranked_codes, top_5_accuracy
from distill.modeling.head import Head
from distill.tasks import class_labels
from distill.tasks.base import Task
from distill.tasks.sequence_classification import (
    ClassificationEvaluator,
    CrossEntropyCriterion,
    SingleLabelSchema,
)


class ImageClassification(Task):
    """Single-label classification of images.

    Args:
        metric: ``accuracy``, ``macro_f1`` or ``matthews_correlation``: what early stopping, the
            best checkpoint and the report's conclusion go by.
        per_class: whether to report precision, recall and F1 of every class.
        augmentation: what the models learn from instead of the images themselves: ``crop``, views
            that are shifted by up to an eighth; ``crop_flip``, also mirrored; ``None``: nothing.
        views: number of views of each image; the teacher's outputs are stored for each of them.

    Raises:
        UserError: for a metric or an augmentation that does not exist.
    """

    def __init__(
        self,
        metric: str = "accuracy",
        per_class: bool = False,
        augmentation: str | None = None,
        views: int = 8,
    ):
        name = "image_classification"
        schema = ImageSchema(name)
        super().__init__(
            name=name,
            schema=schema,
            preprocessor=ImagePreprocessor(f"{name} 1", augmentation, views),
            head=ImageHead(),
            criterion=CrossEntropyCriterion(),
            evaluator=ImageEvaluator(schema, metric, per_class),
            baselines=(LargestClass(), Pixels()),
        )


class ImageSchema(SingleLabelSchema):
    """An image and its class.

    Attributes:
        classes: number of classes, once they are known.
    """

    columns: Mapping[str, Column] = {
        "image": Column(("image", "img", "pixels"), ImageInput()),
        LABEL: Column(("label", "labels", "fine_label")),
    }
    allows_augmentation = False
    inputs_are: ClassVar[str] = "images"
    foreign_options: ClassVar[tuple[str, ...]] = (
        "data.max_length", "data.text", "data.text_pair", "data.unlabeled_select",
        "data.unlabeled_neighbors", "data.unlabeled_encoder", "student.vocabulary",
        "student.max_length", "student.embedding_size",
    )  # fmt: skip

    def __init__(self, task_name: str):
        super().__init__(task_name)
        self.classes = 0

    def clean_rows(self, rows: Dataset, label: str | None) -> Dataset:
        """Return the rows with their images undecoded."""
        return as_cells(rows)

    def set_label_names(self, names: Sequence[str]) -> None:
        """Note the number of classes."""
        self.classes = len(names)


class ImageHead(Head):
    """A linear layer over the pooled image, one output per class."""

    auto_model = AutoModelForImageClassification
    architectures = ("ForImageClassification",)
    problem_type = "single_label_classification"
    accepted_problem_types = (None, "single_label_classification")

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Match the classes by name."""
        return class_labels.head_order(model_names, names)

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set the bias to the log of each class's share of the labels."""
        class_labels.start_at_log_prior(output, labels)


class ImageEvaluator(ClassificationEvaluator):
    """Accuracy, macro F1, Matthews correlation, and of many classes the accuracy of five guesses.

    Args:
        schema: knows the number of classes.
        metric: see :class:`~distill.tasks.evaluator.Evaluator`.
        per_class: see :class:`~distill.tasks.evaluator.Evaluator`.
    """

    def __init__(self, schema: ImageSchema, metric: str, per_class: bool = False):
        super().__init__(metric, per_class)
        self.schema = schema

    @property
    def all_metrics(self) -> list[Metric]:
        """Metrics of predicted against true class ids, and where five guesses may all be wrong."""
        metrics = super().all_metrics
        if not self._ranks:
            return metrics
        return [
            *(replace(one, function=of_predictions(one.function)) for one in metrics),
            Metric("top_5_accuracy", top_5_accuracy),
        ]

    def metric_inputs(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions, see :func:`.ranked.ranked_codes`, and true class ids, ``(N,)``."""
        if not self._ranks:
            return super().metric_inputs(logits, examples)
        return ranked_codes(logits, examples.label_values), examples.label_values

    @property
    def _ranks(self) -> bool:
        return self.schema.classes > GUESSES
