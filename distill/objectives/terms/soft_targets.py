"""Soft labels: the teacher's whole distribution over the classes, compared in many ways.

All of them see logits only, so the teacher's may come from the cache. Multi-label tasks use the
sigmoid form and regression squared error where a term has one; the others refuse.
"""

import logging
from abc import abstractmethod
from typing import Any

from torch import Tensor

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.functional import logits as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule, value_at
from distill.objectives.terms.base import Term, check_temperature

log = logging.getLogger(__name__)

# Terms that are a sum over classes of what is 0 where both models give no probability: the
# positions that a shorter text does not have then add nothing.
CATEGORICAL_FORMS = ("categorical", "spans")


class LogitTerm(Term):
    """A term between logits at a temperature.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        temperature: T > 0, a number or a schedule; higher shows the student more of what the
            teacher thinks of the classes it did not choose.
        standardise: bring both models' logits to mean 0 and deviation 1 over the classes first
            (Sun et al. 2024, "Logit Standardization"). With two classes nothing but the sign would
            be left: refused.
        teacher: of an ensemble, the member it looks at; ``None``: all of them together.
    """

    needs = frozenset({"logits"})
    trains_head = True
    distributions = ("categorical",)
    least_classes = 2

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.temperature, self.standardise = temperature, standardise
        self.distribution = "categorical"

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check classes and temperature."""
        check_temperature(self.temperature, path)
        self.check_teacher(pair, path)
        self.distribution = pair.task.criterion.distribution
        if self.distribution not in self.distributions:
            raise UserError(f"{path}: it has no form for {pair.task.name}")
        if self.distribution != "categorical" and getattr(self.temperature, "adaptive", False):
            raise UserError(
                f"{path}.temperature: an adaptive schedule looks at a distribution over classes, "
                f"which {pair.task.name} has not"
            )
        if self.distribution == "gaussian":
            log.info("%s: squared error of the numbers, its temperature has no part in it", path)
        if self.standardise and self.distribution == "spans":
            raise UserError(
                f"{path}.standardise=true has no form for {pair.task.name}: texts have different "
                "numbers of positions"
            )
        if self.standardise and (self.distribution != "categorical" or pair.classes < 3):
            raise UserError(
                f"{path}.standardise=true needs three classes or more: of two, standardised "
                "logits keep the sign only"
            )
        if pair.classes < self.least_classes and self.distribution == "categorical":
            raise UserError(
                f"{path} needs {self.least_classes} classes or more and the data have "
                f"{pair.classes}: on two it says nothing, use soft_targets (objective=kd)"
            )

    def forward(
        self, student: ModelOutputs, teacher: ModelOutputs, batch: dict[str, Any]
    ) -> Tensor:
        """Outputs with ``logits`` ``(N, C)`` -> scalar."""
        student_logits = student.logits
        if not len(student_logits):  # texts without a word that is read: a mean over nothing
            return student_logits.sum() * 0.0
        temperature = value_at(self.temperature, self.progress, student_logits, teacher.logits)
        teacher_logits = teacher.logits_at(temperature)
        if self.standardise:
            student_logits = functional.standardize(student_logits)
            teacher_logits = functional.standardize(teacher_logits)
        return self.compare(student_logits, teacher_logits, temperature, batch)

    @abstractmethod
    def compare(
        self, student: Tensor, teacher: Tensor, temperature: float | Tensor, batch: dict[str, Any]
    ) -> Tensor:
        """Logits ``(N, C)`` twice -> scalar."""


class SoftTargets(LogitTerm):
    """KL divergence to the teacher's softened distribution, scaled by T^2 (Hinton et al. 2015).

    Multi-label tasks: the same for each class's yes or no. Regression: squared error. Arguments
    as :class:`LogitTerm`.
    """

    distributions = (*CATEGORICAL_FORMS, "bernoulli", "gaussian")

    def __init__(
        self,
        weight: float | Schedule = 0.5,
        temperature: float | Schedule = 2.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardise, teacher)

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        if self.distribution == "gaussian":
            return functional.logits_mse(student, teacher)
        if self.distribution == "bernoulli":
            return functional.binary_soft_target_kl(student, teacher, temperature)
        return functional.soft_target_kl(student, teacher, temperature)


class ReverseKL(LogitTerm):
    """KL divergence from the teacher to the student (Gu et al. 2024). As :class:`LogitTerm`."""

    distributions = CATEGORICAL_FORMS

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.reverse_kl(student, teacher, temperature)


class TotalVariation(LogitTerm):
    """Half the absolute difference of the distributions. As :class:`LogitTerm`."""

    distributions = CATEGORICAL_FORMS

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.total_variation(student, teacher, temperature)


class SoftCrossEntropy(LogitTerm):
    """Cross-entropy against the teacher's distribution, scaled by T^2. As :class:`LogitTerm`."""

    distributions = CATEGORICAL_FORMS

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.soft_cross_entropy(student, teacher, temperature)


class JensenShannon(LogitTerm):
    """Generalised Jensen-Shannon divergence (Agarwal et al. 2024).

    Args:
        weight: see :class:`LogitTerm`.
        temperature: see :class:`LogitTerm`.
        beta: the teacher's share of the mixture, between 0 and 1; 0.5 is the symmetric one.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    distributions = CATEGORICAL_FORMS

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        beta: float = 0.5,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardise, teacher)
        self.beta = beta

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check the mixture as well."""
        super().bind(pair, path)
        if not 0 < self.beta < 1:
            raise UserError(f"{path}.beta={self.beta}: it must lie between 0 and 1")

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.jensen_shannon(student, teacher, temperature, self.beta)


class SkewedKL(LogitTerm):
    """KL divergence to a mixture of both (Ko et al. 2024, DistiLLM).

    Args:
        weight: see :class:`LogitTerm`.
        temperature: see :class:`LogitTerm`.
        skew: share of the first distribution in the mixture, from 0 to below 1.
        reverse: the student's divergence from the mixture instead of the teacher's.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    distributions = CATEGORICAL_FORMS

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        skew: float = 0.1,
        reverse: bool = False,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardise, teacher)
        self.skew, self.reverse = skew, reverse

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check the mixture as well."""
        super().bind(pair, path)
        if not 0 <= self.skew < 1:
            raise UserError(f"{path}.skew={self.skew}: a share, from 0 to below 1")

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        loss = functional.skewed_reverse_kl if self.reverse else functional.skewed_kl
        return loss(student, teacher, temperature, self.skew)


class LogitsMSE(LogitTerm):
    """Mean squared error of the logits (Ba and Caruana 2014; Kim et al. 2021).

    Args:
        weight: see :class:`LogitTerm`.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    distributions = ("categorical", "bernoulli", "gaussian")

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, 1.0, standardise, teacher)

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.logits_mse(student, teacher)


class HardTeacherLabels(LogitTerm):
    """Cross-entropy against the teacher's choice (Touvron et al. 2021).

    Args:
        weight: see :class:`LogitTerm`.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    distributions = CATEGORICAL_FORMS

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, 1.0, standardise, teacher)

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        return functional.hard_teacher_labels(student, teacher)


class DecoupledKD(LogitTerm):
    """Target and non-target classes apart (Zhao et al. 2022, DKD).

    The target is the example's label; where it has none (unlabelled text), the teacher's choice.

    Args:
        weight: see :class:`LogitTerm`; the paper raises it from 0 over the first epochs, which is
            a linear schedule.
        temperature: see :class:`LogitTerm`.
        target_weight: of the target's probability against all others, the paper's alpha.
        non_target_weight: of the distribution over the others, the paper's beta.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    least_classes = 3

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 4.0,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardise, teacher)
        self.target_weight, self.non_target_weight = target_weight, non_target_weight

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check the weights as well."""
        super().bind(pair, path)
        _check_part_weights(self, ("target_weight", "non_target_weight"), path)

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice and ``batch["labels"]`` ``(N,)`` -> scalar."""
        labels = batch["labels"]
        target = labels.where(labels >= 0, teacher.argmax(-1))
        return functional.decoupled_kd(
            student, teacher, target, temperature, self.target_weight, self.non_target_weight
        )


class Dist(LogitTerm):
    """Relations between classes and between examples (Huang et al. 2022, DIST).

    Args:
        weight: see :class:`LogitTerm`.
        temperature: see :class:`LogitTerm`; the same for all examples.
        inter_weight: of the correlation over the classes, the paper's beta.
        intra_weight: of the correlation over the examples of a batch, the paper's gamma.
        standardise: see :class:`LogitTerm`.
        teacher: see :class:`LogitTerm`.
    """

    least_classes = 3

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        standardise: bool = False,
        teacher: str | None = None,
    ):
        super().__init__(weight, temperature, standardise, teacher)
        self.inter_weight, self.intra_weight = inter_weight, intra_weight

    def bind(self, pair: ModelPair, path: str) -> None:
        """Check weights and temperature as well."""
        super().bind(pair, path)
        _check_part_weights(self, ("inter_weight", "intra_weight"), path)
        if getattr(self.temperature, "adaptive", False):
            raise UserError(
                f"{path}.temperature: it correlates examples, which need one temperature"
            )

    def compare(self, student, teacher, temperature, batch):
        """Logits ``(N, C)`` twice -> scalar."""
        inter = functional.inter_class_relation(student, teacher, temperature)
        intra = functional.intra_class_relation(student, teacher, temperature)
        return self.inter_weight * inter + self.intra_weight * intra


def _check_part_weights(term: LogitTerm, names: tuple[str, str], path: str) -> None:
    for name in names:
        if getattr(term, name) < 0:
            raise UserError(f"{path}.{name}={getattr(term, name)}: it must be 0 or above")
    if not any(getattr(term, name) for name in names):
        raise UserError(f"{path}: {names[0]} and {names[1]} are both 0, which leaves nothing")
