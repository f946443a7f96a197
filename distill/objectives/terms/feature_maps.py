"""Losses on the feature maps of convolutional networks, stage by stage."""

from abc import abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.modeling.needs import Need
from distill.objectives.functional import feature_maps as functional
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import Schedule
from distill.objectives.terms.base import Batch, Term

Stages = Literal["all", "last"] | list[str]


class FeatureMapTerm(Term):
    """Base class of losses on feature maps.

    A stage is named by how many pixels of the image one position stands for: ``stride4`` is the
    last map with a quarter of the image's height and width. So stages of networks that differ are
    matched by their names.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        stages: ``all`` that both have, the ``last`` of these, or a list of names.
        teacher: name of the ensemble member to learn from.
    """

    needs = frozenset({Need.FEATURE_MAPS})

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        stages: Stages = "all",
        teacher: str | None = None,
    ):
        super().__init__(weight, teacher)
        self.stages = stages
        self.chosen: list[str] = []

    def bind(self, pair: ModelPair, path: str) -> None:
        """Match the stages by name."""
        student, teacher = self.shapes(pair, path)
        for role, shape in (("student", student), ("teacher", teacher)):
            if not shape.feature_maps:
                raise UserError(
                    f"{path} compares feature maps, and the {role} is no convolutional network: "
                    "choose an objective on logits"
                )
        # Maps of another height or width, of images that are no multiple of the stride, are others.
        common = [
            name
            for name, (_, *size) in student.feature_maps.items()
            if name in teacher.feature_maps and list(teacher.feature_maps[name][1:]) == size
        ]
        known = (
            f"the student has {', '.join(student.feature_maps)}, the teacher "
            f"{', '.join(teacher.feature_maps)}"
        )
        if isinstance(self.stages, str):
            if self.stages not in ("all", "last"):
                raise UserError(f"{path}.stages={self.stages}: choose all, last or a list of names")
            if not common:
                raise UserError(f"{path}: no stage of the two is of one size: {known}")
            self.chosen = common if self.stages == "all" else common[-1:]
            return
        missing = [name for name in self.stages if name not in common]
        if missing or not self.stages:
            raise UserError(f"{path}.stages={self.stages}: choose stages that both have: {known}")
        self.chosen = list(self.stages)

    def forward(self, student: ModelOutputs, teacher: ModelOutputs | None, batch: Batch) -> Tensor:
        """Compute the sum over the stages, a scalar."""
        assert teacher is not None
        losses = [
            self.compare(name, student.feature_maps[name], teacher.feature_maps[name])
            for name in self.chosen
        ]
        return torch.stack(losses).sum()

    @abstractmethod
    def compare(self, stage: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Compute the loss of one stage from ``(N, C, H, W)`` and ``(N, C', H, W)``, a scalar."""


class AttentionTransfer(FeatureMapTerm):
    """Where the maps are active (Zagoruyko and Komodakis 2017).

    The paper's weight is 1000 over the number of positions and the size of the batch (section
    4.1); the mean over both is part of this loss, so it is 1000 here.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        stages: ``all`` that both have, the ``last`` of these, or a list of names.
        teacher: name of the ensemble member to learn from.
    """

    def compare(self, stage: str, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`.functional.feature_maps.attention_transfer`."""
        return functional.attention_transfer(student, teacher)


class Hints(FeatureMapTerm):
    """The maps themselves, after a projection of the student's channels (Romero et al. 2015).

    The projection is a convolution of 1 x 1 without bias where the numbers of channels differ,
    one for each stage; the paper's is as large as maps of two sizes need. It is trained, clipped,
    saved and resumed with the student and is no part of the saved student. All terms train
    together, where the paper first trains the hint alone.

    Args:
        weight: factor of this term in the objective, a number or a schedule.
        stages: ``all`` that both have, the ``last`` of these, or a list of names.
        teacher: name of the ensemble member to learn from.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        stages: Stages = "all",
        teacher: str | None = None,
    ):
        super().__init__(weight, stages, teacher)
        self.projections = nn.ModuleDict()

    def bind(self, pair: ModelPair, path: str) -> None:
        """Match the stages, and create projections where the channels differ."""
        super().bind(pair, path)
        student, teacher = self.shapes(pair, path)
        sizes = {
            name: (student.feature_maps[name][0], teacher.feature_maps[name][0])
            for name in self.chosen
        }
        self.projections = nn.ModuleDict(
            {
                name: nn.Conv2d(own, given, 1, bias=False)
                for name, (own, given) in sizes.items()
                if own != given
            }
        )

    def compare(self, stage: str, student: Tensor, teacher: Tensor) -> Tensor:
        """See :func:`.functional.feature_maps.hint`."""
        if stage in self.projections:
            projection = self.projections[stage]
            assert isinstance(projection, nn.Conv2d)
            with torch.autocast(student.device.type, enabled=False):
                student = F.conv2d(student.float(), projection.weight.float())
        return functional.hint(student, teacher)
