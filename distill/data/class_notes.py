"""Notes on classes that training or evaluation does not see."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from distill.data.label_cleaning import SHOWN, spelling_notes
from distill.data.schema import Targets

# A task with this number of distinct fractions as classes has scores rather than classes.
_MANY_SCORES = 20


def class_notes(
    targets: Mapping[str, Targets | None], names: Sequence[str], limit: int | None
) -> list[str]:
    """Return notes on classes without training examples, and on names that are doubtful.

    Args:
        targets: class ids ``(N,)``, ones and zeros ``(N, C)``, or lists of ids, by split.
        names: names of the classes.
        limit: value of ``data.limit``.
    """
    counts = {
        split: _class_counts(labels, len(names))
        for split, labels in targets.items()
        if labels is not None
    }
    notes = spelling_notes(names)
    notes += _note_scores(names)
    train = targets["train"]
    if isinstance(train, np.ndarray) and train.ndim == 2 and (train.sum(axis=1) == 1).all():
        notes.append(
            "Every training example has exactly one label: task=sequence_classification is for "
            "that, and data.label=[CLASS, CLASS, ...] names a column of 0 and 1 for each class."
        )
    untrained = counts["train"] == 0
    for split in ("validation", "test"):
        missing = np.flatnonzero(untrained & (counts[split] > 0))
        if len(missing):
            shown = ", ".join(
                f"{names[index]} ({counts[split][index]})" for index in missing[:SHOWN]
            )
            more = ", ..." if len(missing) > SHOWN else ""
            reason = f" among the {limit} of data.limit" if limit is not None else ""
            notes.append(
                f"{len(missing)} class{'es' * (len(missing) > 1)} of {split} ha"
                f"{'ve' if len(missing) > 1 else 's'} no training example{reason} and cannot be "
                f"learned: {shown}{more}."
            )
    single = np.flatnonzero(sum(counts[split] for split in counts) == 1)
    if len(single) and not _are_tags(train):
        shown = ", ".join(names[index] for index in single[:SHOWN])
        more = ", ..." if len(single) > SHOWN else ""
        notes.append(
            f"{len(single)} class{'es' * (len(single) > 1)} with a single example in all splits "
            f"(a slip of the pen?): {shown}{more}."
        )
    present = np.flatnonzero(counts["test"])
    if len(present) == 1 and len(names) > 1:
        notes.append(f"Every evaluated example has the same class, {names[present[0]]}.")
    return notes


def _are_tags(targets: Targets | None) -> bool:
    """Return whether each example has a list of ids, one for each word."""
    return not isinstance(targets, np.ndarray)


def _note_scores(names: Sequence[str]) -> list[str]:
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        return []
    fractions = sum(not number.is_integer() for number in numbers)
    if len(names) < _MANY_SCORES or not fractions:
        return []
    return [
        f"The {len(names)} classes are numbers with fractions ({names[0]}, {names[1]}, ...): "
        "task=regression is for scores."
    ]


def _class_counts(targets: Targets, classes: int) -> np.ndarray:
    """Return the number of examples or positions of each class, ``(C,)``."""
    if not isinstance(targets, np.ndarray):
        ids = np.fromiter(chain.from_iterable(targets), np.int64)
        return np.bincount(ids[ids >= 0], minlength=classes)
    if targets.ndim == 2:
        return (targets > 0).sum(axis=0)
    return np.bincount(targets[targets >= 0], minlength=classes)
