"""Any number of labels for a text or a pair of texts, including none."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from distill.answers.classes import LabelsReader
from distill.baselines.constant import CommonestLabels
from distill.baselines.words import Words
from distill.core.errors import UserError
from distill.data.columns import describe_type, iter_values
from distill.data.dataset import DistillationDataset
from distill.data.labels import IGNORED_LABEL
from distill.data.schema import LABEL
from distill.data.text_preprocessor import TextPreprocessor
from distill.metrics import calibration, classification, fidelity
from distill.metrics.base import Metric
from distill.modeling.head import Head
from distill.objectives.criterion import Criterion, Distribution
from distill.tasks import class_labels
from distill.tasks.base import Task
from distill.tasks.evaluator import CalibrationSamples, Evaluator, PerClass
from distill.tasks.sequence_classification import TextPairSchema


class MultiLabel(Task):
    """Multi-label classification: an independent decision per class, by the sigmoid of its logit.

    Args:
        metric: ``micro_f1``, ``macro_f1`` or ``exact_match``: what early stopping, the best
            checkpoint and the report's conclusion go by.
        per_class: whether to report precision, recall and F1 of every class.
        min_steps: see :class:`~distill.tasks.base.Task`. Rare labels are learned late: until then
            no probability reaches 0.5, and the F1 scores are 0.

    Raises:
        UserError: for a metric that does not exist, or a smallest number of steps below 1.
    """

    def __init__(
        self, metric: str = "micro_f1", per_class: bool = False, min_steps: int | None = None
    ):
        name = "multi_label"
        super().__init__(
            name=name,
            schema=MultiLabelSchema(name),
            preprocessor=TextPreprocessor(name),
            head=MultiLabelHead(),
            criterion=BinaryCrossEntropyCriterion(),
            evaluator=MultiLabelEvaluator(metric, per_class),
            baselines=(CommonestLabels(), Words("bernoulli")),
            min_steps=min_steps,
        )

    def answer_reader(
        self, names: Sequence[str], columns: Mapping[str, Sequence[str]], **settings: Any
    ) -> LabelsReader:
        """Return the reader of any number of labels."""
        return LabelsReader(names, columns=columns, **settings)


class MultiLabelSchema(TextPairSchema):
    """A list of classes per example."""

    multiple_labels: ClassVar[bool] = True
    categorical: ClassVar[bool] = True

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """Return the classes in the order of their ids; see :func:`class_labels.class_names`.

        Raises:
            UserError: if labels are not lists, if there is none, or one that ``given`` lacks.
        """
        feature, present = _class_feature(splits["train"], "train"), set()
        for split in ("train", "validation"):
            _class_feature(splits[split], split)
            for labels in iter_values(splits[split], LABEL):
                present |= {str(label) for label in labels or () if label is not None}
        if not present:
            raise UserError("no example of train or validation has any label")
        return class_labels.class_names(feature, present, given)

    def targets(self, split: str, rows: Dataset, names: Sequence[str]) -> np.ndarray:
        """Return the labels of a split as 0 or 1 for each class, ``(N, C)``.

        Raises:
            UserError: for a label that is missing (null; an empty list is none) or not a class.
        """
        feature = _class_feature(rows, split)
        start = rows.select(range(min(1000, len(rows))))
        first = [label for labels in iter_values(start, LABEL) for label in labels or ()][:100]
        ids = class_labels.label_ids(feature, first or names, names)
        targets = np.zeros((len(rows), len(names)), dtype=np.int8)
        for row, labels in enumerate(iter_values(rows, LABEL)):
            if labels is None or None in labels:
                raise UserError(
                    f"{split} row {row + 1} has no label (for none of the classes, an empty list; "
                    "data.drop_unlabeled=true leaves such rows out)"
                )
            for label in labels:
                if str(label) not in ids:
                    raise UserError(
                        f"{split} row {row + 1} has the label '{label}', which train does not have "
                        f"({class_labels.preview(names)})"
                        f"{class_labels.similar_name_hint(label, names)}"
                    )
                targets[row, ids[str(label)]] = 1
        return targets

    def missing_label(self, names: Sequence[str]) -> list[int]:
        """Return the ignored id for every class."""
        return [IGNORED_LABEL] * len(names)

    def describe_outputs(self, names: Sequence[str]) -> str:
        """Describe the classes."""
        return f"{len(names)} classes"


class MultiLabelHead(Head):
    """A linear layer over the pooled first token, one logit per class."""

    auto_model = AutoModelForSequenceClassification
    architectures = ("ForSequenceClassification",)
    problem_type = "multi_label_classification"
    accepted_problem_types = ("multi_label_classification",)

    def output_order(
        self, model_names: Mapping[int, str], names: Sequence[str]
    ) -> list[int] | None:
        """Match the classes by name."""
        return class_labels.head_order(model_names, names)

    def initialize(self, output: nn.Linear, labels: np.ndarray) -> None:
        """Set the bias to the log-odds of the labels."""
        class_labels.start_at_log_odds(output, labels)


class BinaryCrossEntropyCriterion(Criterion):
    """A Bernoulli distribution per class, binary cross-entropy on labels."""

    distribution: ClassVar[Distribution] = "bernoulli"

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Binary cross-entropy of every decision in fp32: ``(N, C)`` twice -> scalar.

        .. math:: \frac{1}{N} \sum_{n \text{ with labels}} \sum_c
           -\log \sigma((2 y_{nc} - 1) z_{nc})

        The sum over the classes, as in the soft-label term beside it
        (:func:`.soft_targets.binary_soft_target_kl`), where transformers takes the mean: C times as
        large. Examples without labels add nothing to the sum, but count
        in N.
        """
        known = labels != IGNORED_LABEL
        targets = labels.where(known, 0).float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return (loss * known).sum() / len(labels)


class MultiLabelEvaluator(Evaluator[np.ndarray]):
    """Micro and macro F1 and exact match of the decisions."""

    selection_metrics = ("micro_f1", "macro_f1", "exact_match")

    @property
    def all_metrics(self) -> list[Metric]:
        """Metrics of predicted against true decisions."""
        return [
            Metric("micro_f1", classification.micro_f1),
            Metric("macro_f1", classification.multi_label_macro_f1),
            Metric("exact_match", classification.exact_match),
        ]

    def metric_inputs(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted and true decisions, 0 or 1, ``(N, C)`` each."""
        return _decisions(logits), examples.label_values

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return the calibration over all decisions: per decision, not per example."""
        log_probabilities = fidelity.log_softmax(_two_classes(logits))
        labels = np.asarray(labels).reshape(-1)
        return {
            "expected_calibration_error": calibration.expected_calibration_error(
                np.exp(log_probabilities), labels
            ),
            "negative_log_likelihood": calibration.negative_log_likelihood(
                log_probabilities, labels
            ),
        }

    def calibration_samples(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> CalibrationSamples:
        """Return every decision; those of an example belong together."""
        rows = np.repeat(np.arange(len(logits)), logits.shape[1])
        return CalibrationSamples.from_logits(*self.categorical_logits(logits, examples), rows)

    def categorical_logits(
        self, logits: np.ndarray, examples: DistillationDataset
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return every decision, a choice between two classes with the logits 0 and z."""
        return _two_classes(logits), np.asarray(examples.label_values).reshape(-1)

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
        """Return the share of equal decisions, and the divergences summed over the classes."""
        predicted, teacher_predicted = _decisions(logits), _decisions(teacher)
        return {
            "agreement": fidelity.agreement(predicted.reshape(-1), teacher_predicted.reshape(-1)),
            "kl_divergence": fidelity.bernoulli_divergence(teacher, logits),
        }

    def constant_prediction(
        self, logits: np.ndarray, examples: DistillationDataset, names: Sequence[str]
    ) -> str | None:
        """Return the only set of classes that is predicted."""
        decisions = _decisions(logits)
        if len(decisions) < 2 or (decisions != decisions[0]).any():
            return None
        classes = [name for name, chosen in zip(names, decisions[0], strict=True) if chosen]
        return f"{', '.join(classes) or 'none of the classes'} for every example"

    def per_class_scores(
        self, logits: np.ndarray, examples: DistillationDataset, names: Sequence[str]
    ) -> PerClass:
        """Return the scores of each class's positive decisions."""
        labeled = np.asarray(examples.label_values) == 1
        return classification.per_class_scores(_decisions(logits) == 1, labeled, names)


def _decisions(logits: np.ndarray) -> np.ndarray:
    """Classes with a probability of 0.5 or more as 1, ``(N, C)``."""
    return (logits >= 0).astype(np.int64)


def _two_classes(logits: np.ndarray) -> np.ndarray:
    """Logits ``(N, C)`` of decisions as those of choices between two classes, ``(N * C, 2)``."""
    flat = np.asarray(logits, dtype=np.float64).reshape(-1)
    return np.stack([np.zeros_like(flat), flat], 1)


def _class_feature(rows: Dataset, split: str) -> Any:
    """Return the type of a single label."""
    feature = rows.features[LABEL]
    if not hasattr(feature, "feature"):
        raise UserError(
            f"the labels of {split} are no lists but single ones ({describe_type(feature)}): "
            "task=sequence_classification is for one label an example, and "
            "data.label=[CLASS, CLASS, ...] names a column of 0 and 1 for each class"
        )
    return feature.feature
