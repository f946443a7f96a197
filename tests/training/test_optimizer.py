import pytest
import torch

from distill.core.errors import UserError
from distill.training.optimizer import AdamW, default_learning_rate
from tests.factories import make_model


def test_warms_up_and_decays():
    linear = AdamW(warmup=0.1)
    factors = [linear.schedule_factor(step, 100) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert max(factors) == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == 0
    assert AdamW(warmup=0.1, decay="constant").schedule_factor(99, 100) == 1
    assert AdamW(warmup=0.0, decay="cosine").schedule_factor(50, 100) == pytest.approx(0.5)


def test_decays_matrices_only():
    settings = AdamW(learning_rate=1e-3, weight_decay=0.1)
    optimizer, _ = settings.build(settings.parameter_groups(make_model()), 10)
    decayed, plain = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in plain["params"])


def test_smaller_models_get_larger_rates():
    small = make_model()
    large = torch.nn.Linear(10_000, 9_000, device="meta")
    assert default_learning_rate(small) == 2e-4
    assert default_learning_rate(large) == 3e-5
    assert AdamW(learning_rate=1.0).learning_rate_for(small) == 1.0


@pytest.mark.parametrize(
    "settings",
    [{"learning_rate": 0}, {"warmup": 1}, {"weight_decay": -1}, {"betas": (1, 0)}, {"decay": "x"}],
)
def test_refuses(settings):
    with pytest.raises(UserError):
        AdamW(**settings)
