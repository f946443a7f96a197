from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs
from distill.objectives.functional.soft_targets import soft_target_kl
from distill.objectives.objective import Objective, Recipe, Stage
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.optimizer import AdamW


@pytest.fixture
def models():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 3, generator=draw) for _ in range(2))
    batch = {"labels": torch.tensor([0, 1, 2, 0, 1, 2])}
    return ModelOutputs(student), ModelOutputs(teacher), batch


def kd(soft, hard, temperature=2.0):
    objective = Objective(
        "kd", soft_targets=SoftTargets(soft, temperature), hard_labels=HardLabels(hard)
    )
    return objective.bind(ModelPair(SequenceClassification(), 3))


def test_is_the_weighted_sum_of_its_terms(models):
    student, teacher, batch = models
    losses = kd(0.3, 0.9, 4.0)(*models)
    soft = soft_target_kl(student.logits, teacher.logits, 4.0)
    hard = F.cross_entropy(student.logits, batch["labels"])
    assert losses["soft_targets"] == soft
    assert losses["hard_labels"] == hard
    assert losses["loss"].item() == pytest.approx((0.3 * soft + 0.9 * hard).item())


def test_a_term_of_weight_0_is_not_computed(models):
    student, _, batch = models
    objective = kd(0.0, 1.0)
    assert objective.needs == frozenset()
    assert set(objective(student, None, batch)) == {"loss", "hard_labels"}


def test_needs_are_those_of_its_terms():
    assert kd(0.5, 0.5).needs == {"logits"}


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (float("nan"), 1), (float("inf"), 1)])
def test_refuses_impossible_weights(weights):
    with pytest.raises(UserError, match="weight"):
        kd(*weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 1.0}, "objective.first.warmup=1.0: a fraction"),
        ({"warmup": -0.1}, "objective.first.warmup=-0.1"),
        ({"decay": "none"}, "objective.first.decay=none: choose linear, cosine, constant"),
    ],
)
def test_a_stage_with_a_schedule_that_there_is_not_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Recipe("any", first=Stage(hard_labels=HardLabels(1.0), **settings))


def test_a_stage_overrides_what_it_names_of_the_optimizer():
    assert Stage(hard_labels=HardLabels(1.0)).optimizer_settings == {}
    stage = Stage(learning_rate=1e-3, warmup=0.0, decay="constant", hard_labels=HardLabels(1.0))
    settings = replace(AdamW(weight_decay=0.2), **stage.optimizer_settings)
    assert settings == AdamW(learning_rate=1e-3, weight_decay=0.2, warmup=0.0, decay="constant")
    assert [settings.schedule_factor(step, 10) for step in (0, 5, 9)] == [1.0, 1.0, 1.0]
