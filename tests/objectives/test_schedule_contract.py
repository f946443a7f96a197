"""What every schedule promises, of every schedule that there is."""

import importlib
import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml

from distill.core.errors import UserError
from distill.objectives import schedules
from distill.objectives.objective import Objective
from distill.objectives.schedules import Schedule, schedule_bounds, value_at
from distill.objectives.terms.soft_targets import SoftTargets

CONF = Path(__file__).parents[2] / "conf" / "schedule"
SCHEDULES = [
    cls
    for cls in vars(schedules).values()
    if inspect.isclass(cls) and issubclass(cls, Schedule) and not inspect.isabstract(cls)
]
every_schedule = pytest.mark.parametrize("cls", SCHEDULES, ids=lambda cls: cls.__name__)


def from_conf(cls: type) -> tuple[Schedule, dict]:
    """The schedule that conf/schedule/NAME.yaml describes, and its settings."""
    settings = yaml.safe_load((CONF / f"{cls.__name__.lower()}.yaml").read_text(encoding="utf-8"))
    module, name = settings.pop("_target_").rsplit(".", 1)
    assert getattr(importlib.import_module(module), name) is cls
    return cls(**settings), settings


def test_all_of_them_are_found():
    assert len(SCHEDULES) >= 6
    assert {file.stem for file in CONF.glob("*.yaml")} == {
        cls.__name__.lower() for cls in SCHEDULES
    }


@every_schedule
def test_every_argument_is_documented_and_has_a_default_in_conf(cls):
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(cls), re.MULTILINE)
    _, settings = from_conf(cls)
    for name in inspect.signature(cls).parameters:
        assert name in documented
        assert name in settings


@every_schedule
def test_attributes_rebuild_the_schedule(cls):
    schedule, settings = from_conf(cls)
    kept = {name: getattr(schedule, name) for name in inspect.signature(cls).parameters}
    assert {name: list(value) if isinstance(value, tuple) else value
            for name, value in kept.items()} == settings  # fmt: skip
    assert vars(cls(**kept)) == vars(schedule)
    assert vars(pickle.loads(pickle.dumps(schedule))) == vars(schedule)


@every_schedule
def test_value(cls):
    schedule, _ = from_conf(cls)
    bounds = schedule_bounds(schedule)
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 3, generator=generator).requires_grad_() for _ in range(2)]
    for progress in (0.0, 0.3, 0.5, 1.0):
        value = value_at(schedule, progress, *logits)
        if cls.adaptive:
            assert value.shape == (5, 1)
            assert not value.requires_grad
            assert (value >= min(bounds)).all()
        else:
            assert min(bounds) <= value <= max(bounds)
            assert value == value_at(schedule, progress)


@every_schedule
def test_may_be_a_temperature_and_if_not_adaptive_a_weight(cls):
    schedule, _ = from_conf(cls)
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 3, generator=generator) for _ in range(2)]
    value = value_at(schedule, 1.0, *logits)
    assert torch.as_tensor(value > 0).all()
    objective = Objective("any", soft=SoftTargets(weight=schedule))
    if cls.adaptive:
        with pytest.raises(UserError, match="for temperatures"):
            objective.check()
    else:
        objective.check()
        assert objective.weights_at(1.0) == {"soft": value}
        assert objective.scheduled_values(1.0) == {"weight/soft": value}
