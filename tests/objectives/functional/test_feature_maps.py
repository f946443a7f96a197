"""Losses on feature maps, against plain loops in double precision."""

import math

import numpy as np
import pytest
import torch

from distill.objectives.functional.feature_maps import (
    attention_transfer,
    hint,
    probabilistic_knowledge_transfer,
)


def maps(seed: int, channels: int, size: tuple[int, int] = (3, 2)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, channels, *size, generator=generator)


def test_attention_transfer_by_hand():
    student, teacher = maps(0, 5), maps(1, 7)
    total = 0.0
    for own, given in zip(student.double().numpy(), teacher.double().numpy(), strict=True):
        first, second = (
            [sum(channel[y][x] ** 2 for channel in one) / len(one)
             for y in range(3) for x in range(2)]
            for one in (own, given)
        )  # fmt: skip
        lengths = [math.sqrt(sum(value**2 for value in one)) for one in (first, second)]
        for a, b in zip(first, second, strict=True):
            total += (a / lengths[0] - b / lengths[1]) ** 2
    assert attention_transfer(student, teacher).item() == pytest.approx(total / (4 * 6), rel=1e-5)


def test_attention_transfer_knows_no_scale():
    student, teacher = maps(0, 5), maps(1, 7)
    expected = attention_transfer(student, teacher)
    torch.testing.assert_close(attention_transfer(3 * student, teacher / 5), expected)
    torch.testing.assert_close(attention_transfer(-student, teacher), expected)
    assert attention_transfer(student, 2 * student).item() == pytest.approx(0, abs=1e-12)


def test_a_map_without_activity_has_finite_gradients():
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)
    attention_transfer(student, maps(1, 7, (2, 2))[:2]).backward()
    assert student.grad.isfinite().all()


def test_hint_by_hand():
    student, teacher = maps(0, 5), maps(1, 5)
    expected = np.mean((student.double().numpy() - teacher.double().numpy()) ** 2)
    assert hint(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_probabilistic_knowledge_transfer_by_hand():
    student, teacher = torch.randn(5, 3).double(), torch.randn(5, 4).double()

    def near(vectors):
        rows = []
        for first in vectors.tolist():
            row = []
            for second in vectors.tolist():
                product = sum(a * b for a, b in zip(first, second, strict=True))
                lengths = math.hypot(*first) * math.hypot(*second)
                row.append((product / lengths + 1) / 2)
            rows.append([value / sum(row) for value in row])
        return rows

    total = 0.0
    for own, given in zip(near(student), near(teacher), strict=True):
        for p, q in zip(given, own, strict=True):
            total += p * math.log((p + 1e-7) / (q + 1e-7))
    loss = probabilistic_knowledge_transfer(student.float(), teacher.float())
    assert loss.item() == pytest.approx(total / 25, rel=1e-4)


@pytest.mark.parametrize("loss", [attention_transfer, hint])
def test_gradients(loss):
    student = maps(0, 2, (2, 2))[:2].double().requires_grad_()
    teacher = maps(1, 2, (2, 2))[:2].double().requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        value = loss(student, teacher)
        value.backward()
    assert teacher.grad is None
    step = 1e-3
    for index in ((0, 0, 0, 0), (1, 1, 1, 0)):
        moved = [student.detach().clone() for _ in range(2)]
        moved[0][index] += step
        moved[1][index] -= step
        slope = (loss(moved[0], teacher) - loss(moved[1], teacher)) / (2 * step)
        assert student.grad[index].item() == pytest.approx(slope.item(), rel=2e-2, abs=1e-4)


def test_an_empty_part_of_a_batch():
    empty = torch.zeros(0, 3, requires_grad=True)
    assert probabilistic_knowledge_transfer(empty, torch.zeros(0, 4)).item() == 0
