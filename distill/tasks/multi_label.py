"""Any number of labels for a text or a pair of texts, none included."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from distill.core.errors import UserError
from distill.data.columns import describe_type, iter_values
from distill.data.labels import IGNORED_LABEL
from distill.metrics import calibration, classification, fidelity
from distill.tasks import class_labels
from distill.tasks.base import TextTask

_METRICS = {
    "micro_f1": classification.micro_f1,
    "macro_f1": classification.multi_label_macro_f1,
    "exact_match": classification.exact_match,
}


class MultiLabel(TextTask):
    """Multi-label classification: a yes or no to each class, by the sigmoid of its logit.

    Args:
        metric: what early stopping, the best checkpoint and the report's conclusion go by.
        per_class: also precision, recall and F1 of every class.

    Raises:
        UserError: for a metric that does not exist.
    """

    name = "multi_label"
    choices = tuple(_METRICS)
    distribution = "bernoulli"
    problem_type = "multi_label_classification"
    heads = ("multi_label_classification",)
    many_labels = True

    def __init__(self, metric: str = "micro_f1", per_class: bool = False):
        super().__init__(metric, per_class)

    # --- labels --------------------------------------------------------------------------------

    def label_names(self, splits: Mapping[str, Dataset], given: Sequence[str] | None) -> list[str]:
        """The classes, in the order of their ids; see :func:`distill.tasks.class_labels.class_names`.

        Raises:
            UserError: if labels are no lists, if there is none, or one that ``given`` lacks.
        """
        feature, occurring = _of_one(splits["train"], "train"), set()
        for split in ("train", "validation"):
            _of_one(splits[split], split)
            for labels in iter_values(splits[split], "label"):
                occurring |= {str(label) for label in labels or () if label is not None}
        if not occurring:
            raise UserError("no example of train or validation has any label")
        return class_labels.class_names(feature, occurring, given)

    def targets(self, split: str, dataset: Dataset, names: Sequence[str]) -> np.ndarray:
        """The labels of a split as a 0 or 1 for each class, ``(N, C)``.

        Raises:
            UserError: for a label that is missing (null; an empty list is none) or outside the set.
        """
        feature = _of_one(dataset, split)
        start = dataset.select(range(min(1000, len(dataset))))
        seen = [label for labels in iter_values(start, "label") for label in labels or ()][:100]
        ids = class_labels.label_ids(feature, seen or names, names)
        targets = np.zeros((len(dataset), len(names)), dtype=np.int8)
        for row, labels in enumerate(iter_values(dataset, "label")):
            if labels is None or None in labels:
                raise UserError(
                    f"{split} row {row + 1} has no label (for none of the classes, an empty list)"
                )
            for label in labels:
                if str(label) not in ids:
                    raise UserError(
                        f"{split} row {row + 1} has the label '{label}', which train does not have "
                        f"({class_labels.preview(names)})"
                    )
                targets[row, ids[str(label)]] = 1
        return targets

    def no_label(self, names: Sequence[str]) -> list[int]:
        """Neither yes nor no to any class."""
        return [IGNORED_LABEL] * len(names)

    def head_order(self, model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
        """Where each class stands in a trained head, matched by name."""
        return class_labels.head_order(model_names, names)

    # --- loss, metrics -------------------------------------------------------------------------

    def hard_label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        r"""Cross-entropy of every yes or no in fp32: ``(N, C)`` twice -> scalar.

        .. math:: \frac{1}{N} \sum_{n \text{ with labels}} \sum_c
           -\log \sigma((2 y_{nc} - 1) z_{nc})

        The sum over the classes, as in the soft-label term beside it
        (:func:`distill.objectives.functional.logits.binary_soft_target_kl`), where transformers has the mean:
        C times as large. Examples without labels add nothing to the sum, yet count in N.
        """
        known = labels != IGNORED_LABEL
        targets = labels.where(known, 0).float()
        loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return (loss * known).sum() / len(labels)

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """The classes with a probability of 0.5 or more: 0 or 1, ``(N, C)``."""
        return (logits >= 0).astype(np.int64)

    def metric_function(self, name: str) -> Callable[..., float]:
        """Of the decisions against the labels."""
        return _METRICS[name]

    def calibration(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Of the yes or no to each class, over all of them: per decision, not per example."""
        decisions = np.asarray(logits, dtype=np.float64).reshape(-1)
        # A yes or no is a choice of two classes with the logits 0 and z.
        log_probabilities = fidelity.log_softmax(np.stack([np.zeros_like(decisions), decisions], 1))
        labels = np.asarray(labels).reshape(-1)
        return {
            "expected_calibration_error": calibration.expected_calibration_error(
                np.exp(log_probabilities), labels
            ),
            "negative_log_likelihood": calibration.negative_log_likelihood(
                log_probabilities, labels
            ),
        }

    def fidelity(self, logits: np.ndarray, teacher: np.ndarray) -> dict[str, float]:
        """Share of equal decisions, and the divergences summed over the classes."""
        said, taught = self.predictions(logits), self.predictions(teacher)
        return {
            "agreement": fidelity.agreement(said.reshape(-1), taught.reshape(-1)),
            "kl_divergence": fidelity.bernoulli_divergence(teacher, logits),
        }

    def by_class(
        self, logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
    ) -> dict[str, dict[str, float | None]]:
        """The yes to each class."""
        return classification.per_class_scores(
            self.predictions(logits) == 1, np.asarray(labels) == 1, names
        )


def _of_one(dataset: Dataset, split: str):
    """The type of a single label."""
    feature = dataset.features["label"]
    if not hasattr(feature, "feature"):
        raise UserError(
            f"the labels of {split} are no lists but single ones ({describe_type(feature)}): "
            "task=sequence_classification is for one label an example"
        )
    return feature.feature
