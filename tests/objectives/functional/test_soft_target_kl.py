import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from distill.objectives.functional.soft_targets import soft_target_kl


def oracle(student, teacher, temperature):
    """A float64 loop."""
    total = 0.0
    for s, t in zip(student.astype(np.float64), teacher.astype(np.float64), strict=True):
        p, q = log_softmax(t / temperature), log_softmax(s / temperature)
        total += sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=draw) * 3, torch.randn(7, 5, generator=draw) * 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
def test_equals_a_float64_loop(logits, temperature):
    student, teacher = logits
    value = soft_target_kl(student, teacher, temperature)
    expected = oracle(student.numpy(), teacher.numpy(), temperature)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_equal_models_give_zero_and_no_gradient(logits):
    student = logits[0].clone().requires_grad_()
    value = soft_target_kl(student, logits[0] + 3.0, 2.0)  # softmax ignores a constant
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


def test_high_temperature_matches_logits(logits):
    """T -> infinity: half the squared distance of centred logits over C (Hinton, section 2.1)."""
    student, teacher = (x - x.mean(-1, keepdim=True) for x in logits)
    limit = ((student - teacher) ** 2).sum(-1).mean() / (2 * student.shape[-1])
    assert soft_target_kl(*logits, 1000.0).item() == pytest.approx(limit.item(), rel=1e-2)


def test_gradient_by_finite_differences(logits):
    student, teacher = logits
    student = student.clone().requires_grad_()
    soft_target_kl(student, teacher, 3.0).backward()
    step = 1e-6
    for row, column in ((0, 0), (3, 2), (6, 4)):
        up, down = (
            student.detach().numpy().astype(np.float64),
            student.detach().numpy().astype(np.float64),
        )
        up[row, column] += step
        down[row, column] -= step
        expected = (oracle(up, teacher.numpy(), 3.0) - oracle(down, teacher.numpy(), 3.0)) / (
            2 * step
        )
        assert student.grad[row, column].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_gradient_keeps_its_size_over_temperatures(logits):
    norms = []
    for temperature in (5.0, 50.0):
        student = (logits[0] / 10).clone().requires_grad_()
        soft_target_kl(student, logits[1] / 10, temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_raised_first(logits, dtype):
    student, teacher = (x.to(dtype) for x in logits)
    assert soft_target_kl(student, teacher, 2.0).dtype == torch.float32
    assert soft_target_kl(student, teacher, 2.0).item() == pytest.approx(
        soft_target_kl(student.float(), teacher.float(), 2.0).item()
    )


def test_certain_teacher_stays_finite():
    student = torch.tensor([[0.0, 0.0]], requires_grad=True)
    value = soft_target_kl(student, torch.tensor([[200.0, -200.0]]), 1.0)
    value.backward()
    assert value.item() == pytest.approx(np.log(2))
    assert torch.isfinite(student.grad).all()


def test_no_gradient_into_the_teacher(logits):
    teacher = logits[1].clone().requires_grad_()
    soft_target_kl(logits[0].clone().requires_grad_(), teacher, 2.0).backward()
    assert teacher.grad is None
