import math

import pytest
import torch

from distill.core.errors import UserError
from distill.objectives.schedules import CWSM, FLSW, Constant, Cosine, Linear, Step


def test_linear_and_cosine_between_their_moments():
    line, wave = Linear(4.0, 2.0, 0.2, 0.6), Cosine(4.0, 2.0, 0.2, 0.6)
    assert [line(p) for p in (0, 0.2, 0.4, 0.6, 1)] == pytest.approx([4, 4, 3, 2, 2])
    assert [wave(p) for p in (0, 0.2, 0.4, 0.6, 1)] == pytest.approx([4, 4, 3, 2, 2])
    assert wave(0.3) == pytest.approx(2 + 2 * (1 + math.cos(math.pi / 4)) / 2)
    assert Constant(3.0)(0.7) == 3.0


def test_steps():
    step = Step([3, 2, 1], [0.5, 0.8])
    assert [step(p) for p in (0, 0.49, 0.5, 0.79, 0.8, 1)] == [3, 3, 2, 2, 1, 1]


def test_adaptive_ones_against_a_loop():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 3, generator=draw) for _ in range(2))
    cosines = [float(s @ t / s.norm() / t.norm()) for s, t in zip(student, teacher, strict=True)]
    weights = torch.tensor([(1 - c) ** 1.5 for c in cosines])
    expected = 4 + 2 * (weights.mean() - weights)
    got = FLSW(4.0, 2.0, 1.5)(0.0, student, teacher).squeeze(1)
    assert torch.allclose(got, expected, atol=2e-3)
    weights = 1 / torch.softmax(student, -1).amax(-1)
    expected = 4 + 0.5 * (weights.mean() - weights)
    assert torch.allclose(CWSM(4.0, 0.5)(0.0, student, teacher).squeeze(1), expected, atol=5e-3)


def test_an_adaptive_temperature_never_reaches_zero():
    student = torch.tensor([[9.0, -9.0], [9.0, -9.0]])
    teacher = torch.tensor([[9.0, -9.0], [-9.0, 9.0]])
    assert FLSW(1.0, 50.0, lowest=0.3)(0.0, student, teacher).min().item() == pytest.approx(0.3)
    assert torch.isfinite(FLSW()(0.0, torch.zeros(2, 2), teacher)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(1, 2, 0.5, 0.5),
        lambda: Cosine(1, 2, -0.1, 1),
        lambda: Step([1, 2], [0.5, 0.6]),
        lambda: Step([1, 2, 3], [0.6, 0.5]),
        lambda: FLSW(1.0, lowest=2.0),
        lambda: CWSM(1.0, lowest=0.0),
    ],
)
def test_impossible_ones_are_refused(make):
    with pytest.raises(UserError):
        make()
