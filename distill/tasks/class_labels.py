"""Class names and ids, and what all tasks share that choose one of several classes."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.data.label_cleaning import composed
from distill.data.labels import IGNORED_LABEL
from distill.metrics import calibration, fidelity


def class_names(feature: Any, present: Collection[str], given: Sequence[str] | None) -> list[str]:
    """Return the classes in the order of their ids.

    The source's own order where it has one (a ``ClassLabel``); otherwise the labels that are
    present, sorted (numbers by value). ``given`` names the integer labels 0, 1, ... or fixes the
    order of string labels.

    Args:
        feature: type of a single label.
        present: labels of train and validation, as text.
        given: value of ``data.labels``.

    Raises:
        UserError: if ``given`` lacks a label.
    """
    if hasattr(feature, "names"):
        names = list(given or feature.names)
        if len(names) != len(feature.names):
            raise UserError(
                f"data.labels names {len(names)} classes, the data have {len(feature.names)}"
            )
        return names
    names = sorted(present, key=_by_value)
    if given is None:
        return names
    # Of true and false, Hydra does not say how they were written.
    written = {name.lower(): name for name in names if name.lower() in ("true", "false")}
    given = [written.get(str(name).lower(), str(name)) for name in given]
    if not set(names) <= set(given) and not _are_ids(names, len(given)):
        missing = sorted(set(names) - set(given))
        raise UserError(f"data.labels lacks {', '.join(missing[:5])}, which the data have")
    return given


def label_ids(feature: Any, values: Sequence[Any], names: Sequence[str]) -> dict[str, int]:
    """Return the id of each label by its text.

    Args:
        feature: type of a single label.
        values: some of the labels.
        names: the classes.
    """
    ids = {name: index for index, name in enumerate(names)}
    # Labels that are ids already: a ClassLabel's, or integers named by data.labels.
    if hasattr(feature, "names") or all(str(value) not in ids for value in values):
        return {str(index): index for index in range(len(names))}
    return ids


def head_order(model_names: Mapping[int, str], names: Sequence[str]) -> list[int] | None:
    """Return the index of each class in a trained head, matched by name.

    Names match regardless of case; ``LABEL_3`` stands for a class called ``3``. ``None`` if the two
    sets differ: the head was then trained for other classes.
    """
    model_ids = {_normalize_name(name): int(index) for index, name in model_names.items()}
    wanted = [_normalize_name(name) for name in names]
    if set(model_ids) != set(wanted) or len(model_ids) != len(names):
        return None
    return [model_ids[name] for name in wanted]


def start_at_log_prior(output: nn.Linear, labels: np.ndarray) -> None:
    """Set a new head's bias to the log of each class's share of the labels.

    The model then starts from the best answer that ignores the input, and no epochs are spent on
    reaching it (Karpathy 2019, "A Recipe for Training Neural Networks"; Lin et al. 2017, "Focal
    Loss", section 4.1). Half an example is added to each class, so that one without any is finite.

    Args:
        output: the head's last layer.
        labels: class ids, of any shape; ``IGNORED_LABEL`` is left out.
    """
    known = labels[labels != IGNORED_LABEL]
    counts = np.bincount(known.astype(np.int64).reshape(-1), minlength=output.out_features) + 0.5
    _set_bias(output, np.log(counts / counts.sum()))


def start_at_log_odds(output: nn.Linear, labels: np.ndarray) -> None:
    """Set a new head's bias to the log-odds of each label, see :func:`start_at_log_prior`.

    Args:
        output: the head's last layer.
        labels: 0 or 1 for each class ``(N, C)``; ``IGNORED_LABEL`` is left out.
    """
    positive = (labels == 1).sum(axis=0) + 0.5
    negative = (labels == 0).sum(axis=0) + 0.5
    _set_bias(output, np.log(positive / negative))


def _set_bias(output: nn.Linear, values: np.ndarray) -> None:
    if output.bias is not None:
        with torch.no_grad():
            output.bias.copy_(torch.from_numpy(values))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Cross-entropy in fp32: ``(N, C)``, ``(N,)`` -> scalar.

    .. math:: \frac{1}{N} \sum_{n:\, y_n \neq -100} -\log \mathrm{softmax}(z_n)_{y_n}

    Examples without a label (``IGNORED_LABEL``) add nothing to the sum, but count in N: a labeled
    example thus weighs the same whatever batch it falls into, as it does against its own soft
    label, whose mean is over all N. A mean over the labeled ones alone would give the only labeled
    example of a batch the weight of N. Without any label the loss is exactly 0, with finite
    gradients that are 0.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
    return total / max(len(labels), 1)


def classification_calibration(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the calibration of the distribution over the classes; ``(N, C)``, ``(N,)``."""
    log_probabilities = fidelity.log_softmax(logits)
    return {
        "expected_calibration_error": calibration.expected_calibration_error(
            np.exp(log_probabilities), labels
        ),
        "negative_log_likelihood": calibration.negative_log_likelihood(log_probabilities, labels),
    }


def classification_fidelity(logits: np.ndarray, teacher: np.ndarray) -> dict[str, float | None]:
    """Return the share of equal predictions and the KL divergence; ``(N, C)`` twice."""
    return {
        "agreement": fidelity.agreement(logits.argmax(axis=-1), teacher.argmax(axis=-1)),
        "kl_divergence": fidelity.kl_divergence(teacher, logits),
    }


def constant_class(
    predicted: np.ndarray, names: Sequence[str], what: str = "the class {} for every example"
) -> str | None:
    """Return the only class among several predictions ``(N,)``, in words; ``None`` if not one."""
    if len(predicted) < 2 or (predicted != predicted[0]).any():
        return None
    only = int(predicted[0])
    return what.format(names[only] if only < len(names) else only)


def similar_name_hint(label: Any, names: Sequence[str]) -> str:
    """Return a hint if a label differs from a class in case or white space only, else nothing."""

    def plain(name: str) -> str:
        return " ".join(name.split()).casefold()

    similar = [name for name in names if plain(name) == plain(str(label))]
    return f"; it differs from '{similar[0]}' in case or white space" if similar else ""


def preview(names: Sequence[str], count: int = 5) -> str:
    """Return the first few names for a message."""
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _normalize_name(name: str) -> str:
    return re.sub(r"^label_", "", composed(str(name)).strip().lower())


def _are_ids(names: Sequence[str], count: int) -> bool:
    return all(name.isdigit() and int(name) < count for name in names)


def _by_value(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
