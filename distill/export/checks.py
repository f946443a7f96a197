"""What an export has to prove before it is kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from distill.answers.base import RecordError, Window
from distill.answers.tokenizer import TextTokenizer
from distill.core.jagged import ArrayOrJagged, JaggedArray
from distill.export.source import ExportSource
from distill.metrics.statistics import paired_comparison
from distill.predict.runtimes import NumpyRuntime, Runtime

TOLERANCE = 1e-4
"""Maximum difference of a logit in fp32, relative where it is above 1."""
NEIGHBOR_TOLERANCE = 0.01
"""The same of an int8 model between a text by itself and beside others."""
MARGIN = 0.1
"""A decision that leads by less, in logits, is near a tie: rounding may turn it."""
AGREEMENT = 0.995
"""Minimum fraction of decisions that are the same among those that are not near a tie."""
LOST = 0.005
"""Refused is what the test split shows to have lost more than this: the paired 95 % interval of the
metric's difference lies below minus this as a whole.

An interval that reaches above it refuses nothing: on few examples every interval does, also that of
a model that has lost nothing. What few examples cannot show, the agreement of clear answers does
(:data:`AGREEMENT`), whose check needs no labels."""
BATCH = 32
# Number of examples that are run beside others, and of records whose tokens are compared.
NEIGHBORS, RECORDS = 64, 200


class ExportRefusedError(Exception):
    """An export that does not give the model's answers."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what is checked.
        passed: its verdict.
        reason: what was found, in words.
        values: the numbers behind it.
        acceptable: whether ``--accept`` keeps a form that fails it: what is lost is the user's to
            judge, that it is another model is not.
    """

    name: str
    passed: bool
    reason: str
    values: dict[str, Any] = field(default_factory=dict)
    acceptable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``export.json``."""
        return {"name": self.name, "passed": self.passed, "reason": self.reason, **self.values}


@dataclass(frozen=True)
class FormOutputs:
    """What a runtime computes for the evaluated split.

    Attributes:
        rows: logits of each example, ``(C,)`` or ``(P, C)``; as the evaluator reduces them where
            they are too many to keep.
        reduced: the logits of all examples as the evaluator takes them.
        decisions: what they decide, ``(M,)``.
        margins: by how much each decision leads, in logits, ``(M,)``.
    """

    rows: Sequence[np.ndarray]
    reduced: ArrayOrJagged
    decisions: np.ndarray
    margins: np.ndarray


def compute(runtime: Runtime, source: ExportSource) -> FormOutputs:
    """Run the evaluated split in batches of like length.

    Raises:
        ExportRefusedError: if the runtime cannot, or gives other shapes or no numbers.
    """
    windows, evaluator = source.windows, source.task.evaluator
    rows: list[Any] = [None] * len(windows)
    decided: list[Any] = [None] * len(windows)
    labels = source.examples.labels
    of_rows = labels.split() if isinstance(labels, JaggedArray) else labels
    order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        for index, row in zip(batch, run(runtime, [windows[i] for i in batch]), strict=True):
            flat = row if row.ndim == 2 else row[None]
            decided[index] = source.reader.decisions(
                flat, None if row.ndim == 1 else np.array([len(row)])
            )
            reduced = evaluator.reduce_logits(
                torch.from_numpy(flat), torch.from_numpy(np.array(of_rows[index], ndmin=1))
            ).numpy()
            rows[index] = reduced if row.ndim == 2 else reduced[0]
    counts = None if rows[0].ndim == 1 else np.array([len(row) for row in rows])
    joined = np.stack(rows) if counts is None else np.concatenate(rows)
    return FormOutputs(
        rows,
        joined if counts is None else JaggedArray(joined, counts),
        np.concatenate([decisions for decisions, _ in decided]),
        np.concatenate([margins for _, margins in decided]),
    )


def run(runtime: Runtime, windows: Sequence[Window]) -> list[np.ndarray]:
    """Run a batch.

    Raises:
        ExportRefusedError: if the runtime cannot, or an output is not a finite number.
    """
    try:
        rows = runtime.logits(windows)
    except Exception as error:  # onnxruntime's own classes share no base
        shape = f"{len(windows)}x{max(len(window.ids) for window in windows)}"
        reason = " ".join(str(error).split())[:200]
        raise ExportRefusedError(f"it does not run on a batch of {shape}: {reason}") from error
    if not all(np.isfinite(row).all() for row in rows):
        raise ExportRefusedError("an output is not a finite number")
    return [np.asarray(row, np.float32) for row in rows]


def check_tokens(source: ExportSource, tokenizer: TextTokenizer) -> Check:
    """Compare the tokens that predictions read with those that were evaluated."""
    rows, reader = source.data.splits["test"], source.reader
    indices = np.unique(np.linspace(0, len(rows) - 1, min(RECORDS, len(rows)), dtype=int)).tolist()
    compared = different = 0
    for index in indices:
        row = rows[index]
        try:
            (found,) = reader.encode(tokenizer, [reader.parse(row)])
        except RecordError:
            continue
        encoded = source.task.preprocessor.encode(
            source.processor, {**{name: [value] for name, value in row.items()}, "row": [index]},
            source.settings.max_length,
        )  # fmt: skip
        # A masked language model continues a long text in further rows, a prediction does not.
        expected = encoded["input_ids"][: len(found.windows) if reader.kind == "masked" else None]
        compared += 1
        different += [list(window.ids) for window in found.windows] != [*map(list, expected)]
    reason = f"{different} of {compared} texts have other tokens than those that were evaluated"
    return Check("tokens", different == 0, reason, {"texts": compared})


def check_standalone(source: ExportSource, runtime: NumpyRuntime) -> Check:
    """Compare the tokens of the folder's own ``predictor.py`` with those that were evaluated."""
    rows = source.data.splits["test"]
    texts = list(rows["text"])
    if "text_pair" in rows.column_names:
        texts = list(zip(texts, rows["text_pair"], strict=True))
    encode = runtime.model.encode
    different = sum(
        encode(text) != list(window.ids) for text, window in zip(texts, source.windows, strict=True)
    )
    reason = f"predictor.py reads other tokens of {different} of {len(texts)} texts"
    return Check("standalone", different == 0, reason, {"texts": len(texts)})


def check_logits(
    source: ExportSource, expected: FormOutputs, found: FormOutputs, tolerance: float = TOLERANCE
) -> Check:
    """Compare the logits of the evaluated split with the model's in torch."""
    difference = largest_difference(expected.rows, found.rows)
    changed = _changed(expected, found)
    # Within the tolerance, what leads by less than twice as much may change places.
    clear = int((changed & (expected.margins > 2 * tolerance)).sum())
    reason = (
        f"a logit differs from the model's by up to {difference:.2g}, at most {tolerance:g} is "
        f"allowed; {int(changed.sum())} of {len(changed)} answers change"
    )
    values = {
        "examples": len(source.windows),
        "largest_difference": difference,
        "changed_answers": int(changed.sum()),
        "answers": len(changed),
    }
    return Check("logits", difference <= tolerance and not clear, reason, values)


def largest_difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Return the largest difference of two lists of logits, relative where they are above 1."""
    if any(one.shape != other.shape for one, other in zip(expected, found, strict=True)):
        return math.inf
    return max(
        (
            float((np.abs(one - other) / np.maximum(1, np.abs(one))).max())
            for one, other in zip(expected, found, strict=True)
            if one.size
        ),
        default=0.0,
    )


def _changed(expected: FormOutputs, found: FormOutputs) -> np.ndarray:
    if expected.decisions.shape != found.decisions.shape:
        return np.ones(len(expected.decisions), dtype=bool)
    changed: np.ndarray = expected.decisions != found.decisions
    return changed


def shapes(longest: int) -> list[tuple[int, int]]:
    """Return batch sizes and lengths from the smallest to the largest."""
    middle = max(1, longest // 2)
    return [(1, 1), (1, longest), (2, 2), (5, middle), (BATCH, min(longest, 9)), (3, longest)]


def check_shapes(
    source: ExportSource, reference: Runtime | None, runtime: Runtime, tolerance: float = TOLERANCE
) -> Check:
    """Run batches of several sizes and lengths, padded, and compare them with the model in torch.

    Args:
        source: the model.
        reference: the model in torch; ``None``: shapes are checked alone, as an int8 model differs.
        runtime: what is checked.
        tolerance: maximum difference of a logit.
    """
    draw = np.random.default_rng(0)
    ids = np.setdiff1d(_known_ids(source), source.settings.special_ids)
    difference, tried = 0.0, []
    for count, length in shapes(source.longest):
        windows = []
        for row in range(count):
            # The first is as long as the shape says, the others are padded.
            own = length if row == 0 else int(draw.integers(1, length + 1))
            positions = None if source.windows[0].positions is None else list(range(own))
            windows.append(Window(draw.choice(ids, own).tolist(), [0] * own, positions))
        found = run(runtime, windows)
        tried.append(f"{count}x{length}")
        if reference is not None:
            expected = run(reference, windows)
            difference = max(difference, largest_difference(expected, found))
    reason = f"it runs in batches of {', '.join(tried)}"
    if reference is not None:
        reason = f"in batches of {', '.join(tried)} a logit differs by up to {difference:.2g}"
    values = {"shapes": tried, "largest_difference": difference if reference else None}
    return Check("shapes", difference <= tolerance, reason, values)


def _known_ids(source: ExportSource) -> np.ndarray:
    found: set[int] = set()
    for window in source.windows[:500]:
        found.update(window.ids)
    return np.array(sorted(found))


def check_neighbors(
    source: ExportSource, runtime: Runtime, tolerance: float, required: bool = True
) -> Check:
    """Compare the answers of texts by themselves with those in a batch beside other texts.

    Args:
        source: the model.
        runtime: what is checked.
        tolerance: maximum difference of a logit.
        required: whether answers may not depend on neighbors.
    """
    windows = source.windows
    count = min(NEIGHBORS, len(windows))
    chosen = np.random.default_rng(0).choice(len(windows), count, replace=False).tolist()
    alone = [run(runtime, [windows[index]])[0] for index in chosen]
    beside: list[np.ndarray] = []
    for start in range(0, count, BATCH):
        beside += run(runtime, [windows[index] for index in chosen[start : start + BATCH]])
    difference = largest_difference(alone, beside)
    changed = total = 0
    for one, other in zip(alone, beside, strict=True):
        first, second = (
            source.reader.decisions(
                row if row.ndim == 2 else row[None],
                None if row.ndim == 1 else np.array([len(row)]),
            )[0]
            for row in (one, other)
        )
        changed, total = changed + int((first != second).sum()), total + len(first)
    reason = (
        f"beside other texts {changed} of {total} answers change, and a logit differs by up to "
        f"{difference:.2g}"
    )
    values = {
        "texts": count, "changed_answers": changed, "largest_difference": difference,
        "tolerance": tolerance, "required": required,
    }  # fmt: skip
    passed = (difference <= tolerance and not changed) or not required
    return Check("neighbors", passed, reason, values)


def check_quality(source: ExportSource, expected: FormOutputs, found: FormOutputs) -> Check:
    """Refuse a form that is shown to have lost more than :data:`LOST` on the evaluated split."""
    evaluator = source.task.evaluator
    metric = evaluator.selection_metric
    first, second = (
        evaluator.metric_inputs(outputs.reduced, source.examples) for outputs in (found, expected)
    )
    paired = paired_comparison(
        metric.function, evaluator.standardize(first[0]), evaluator.standardize(second[0]),
        *first[1:], clusters=evaluator.clusters(source.examples), permutations=199,
    )  # fmt: skip
    value, low, high = (None if x is None else float(x) for x in paired[:3])
    sign = 1 if metric.higher_is_better else -1
    ends = [end for end in (low, high, value) if end is not None]
    best = max(sign * end for end in ends)
    points = "" if low is None or high is None else f" [{low * 100:+.2f}, {high * 100:+.2f}]"
    reason = f"{metric.name} changes by {(value or 0) * 100:+.2f}{points} points"
    values = {"metric": metric.name, "difference": {"value": value, "low": low, "high": high}}
    return Check("quality", best >= -LOST, reason, values, acceptable=True)


def check_agreement(expected: FormOutputs, found: FormOutputs) -> Check:
    """Refuse a form that decides otherwise where the model is clear."""
    changed = _changed(expected, found)
    clear = expected.margins > MARGIN
    if not len(changed):
        return Check("agreement", True, "a number is no choice: nothing to agree on")
    overall = 1 - float(changed.mean())
    of_clear = 1 - float(changed[clear].mean()) if clear.any() else None
    reason = (
        f"{overall:.2%} of the answers are the same, "
        + ("none of them clear" if of_clear is None else f"{of_clear:.2%} of those")
        + f" that lead by more than {MARGIN} logits ({clear.mean():.0%})"
    )
    values = {
        "agreement": overall, "agreement_of_clear": of_clear, "margin": MARGIN,
        "clear": float(clear.mean()), "answers": len(changed),
    }  # fmt: skip
    passed = of_clear is None or of_clear >= AGREEMENT
    return Check("agreement", passed, reason, values, acceptable=True)


def refuse_failed(checks: Sequence[Check], accept: bool = False) -> None:
    """Raise an :class:`ExportRefusedError` for the first check that failed."""
    for check in checks:
        if not check.passed and not (accept and check.acceptable):
            raise ExportRefusedError(f"{check.name}: {check.reason}")
