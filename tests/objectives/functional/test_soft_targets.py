"""Every loss on logits: float64 loops, limits, gradients, invariances, half precision."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, pearsonr

from distill.objectives.functional import divergences
from distill.objectives.functional import soft_targets as f
from distill.objectives.functional.decoupled_kd import decoupled_kd
from distill.objectives.functional.dist import inter_class_relation, intra_class_relation

TARGET = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def bernoulli(student, teacher, t):
    p, q = 1 / (1 + np.exp(-teacher / t)), 1 / (1 + np.exp(-student / t))
    return sum(
        a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
        for a, b in zip(p, q, strict=True)
    )


def decoupled(student, teacher, target, t, alpha=1.0, beta=8.0):
    p, q = softmax(teacher / t), softmax(student / t)
    pair = entropy([p[target], 1 - p[target]], [q[target], 1 - q[target]])
    rest = entropy(np.delete(p, target), np.delete(q, target))
    return alpha * pair + beta * rest


# name: (loss, oracle of one example at temperature t without the factor, power of T)
BY_EXAMPLE = {
    "soft_target_kl": (
        f.soft_target_kl,
        lambda s, z, t: entropy(softmax(z / t), softmax(s / t)),
        2,
    ),
    "reverse_kl": (
        divergences.reverse_kl,
        lambda s, z, t: entropy(softmax(s / t), softmax(z / t)),
        2,
    ),
    "jensen_shannon": (
        divergences.jensen_shannon,
        lambda s, z, t: (
            0.5 * entropy(softmax(z / t), (softmax(z / t) + softmax(s / t)) / 2)
            + 0.5 * entropy(softmax(s / t), (softmax(z / t) + softmax(s / t)) / 2)
        ),
        2,
    ),
    "generalized_js": (
        lambda s, z, t: divergences.jensen_shannon(s, z, t, beta=0.3),
        lambda s, z, t: (
            0.3 * entropy(softmax(z / t), 0.3 * softmax(z / t) + 0.7 * softmax(s / t))
            + 0.7 * entropy(softmax(s / t), 0.3 * softmax(z / t) + 0.7 * softmax(s / t))
        ),
        2,
    ),
    "skewed_kl": (
        divergences.skewed_kl,
        lambda s, z, t: entropy(softmax(z / t), 0.1 * softmax(z / t) + 0.9 * softmax(s / t)),
        2,
    ),
    "skewed_reverse_kl": (
        divergences.skewed_reverse_kl,
        lambda s, z, t: entropy(softmax(s / t), 0.9 * softmax(z / t) + 0.1 * softmax(s / t)),
        2,
    ),
    "total_variation": (
        divergences.total_variation,
        lambda s, z, t: 0.5 * np.abs(softmax(z / t) - softmax(s / t)).sum(),
        1,
    ),
    "soft_cross_entropy": (
        f.soft_cross_entropy,
        lambda s, z, t: -(softmax(z / t) * log_softmax(s / t)).sum(),
        2,
    ),
    "binary_soft_target_kl": (f.binary_soft_target_kl, bernoulli, 2),
    "inter_class_relation": (
        inter_class_relation,
        lambda s, z, t: 1 - pearsonr(softmax(s / t), softmax(z / t))[0],
        2,
    ),
    "logits_mse": (lambda s, z, t: f.logits_mse(s, z), lambda s, z, t: ((s - z) ** 2).mean(), 0),
    "hard_teacher_labels": (
        lambda s, z, t: f.hard_teacher_labels(s, z),
        lambda s, z, t: -log_softmax(s)[z.argmax()],
        0,
    ),
}
DIVERGENCES = [
    "soft_target_kl", "reverse_kl", "jensen_shannon", "generalized_js", "skewed_kl",
    "skewed_reverse_kl", "total_variation", "binary_soft_target_kl", "inter_class_relation",
    "logits_mse",
]  # fmt: skip


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=draw) * 3, torch.randn(7, 5, generator=draw) * 3


@pytest.mark.parametrize("name", BY_EXAMPLE)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_equals_a_float64_loop(name, temperature, logits):
    loss, oracle, power = BY_EXAMPLE[name]
    student, teacher = (x.double().numpy() for x in logits)
    expected = np.mean([oracle(s, z, temperature) for s, z in zip(student, teacher, strict=True)])
    expected *= temperature**power
    assert loss(*logits, temperature).item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_kd_equals_a_float64_loop(temperature, logits):
    expected = temperature**2 * np.mean(
        [
            decoupled(s, z, target, temperature)
            for s, z, target in zip(*(x.double().numpy() for x in logits), TARGET, strict=True)
        ]
    )
    value = decoupled_kd(*logits, TARGET, temperature)
    assert value.item() == pytest.approx(expected, rel=2e-5)


def test_decoupled_kd_is_soft_targets_where_its_weights_are_the_teachers_own(logits):
    """The paper's eq. 5: KL = TCKD + (1 - p_target) NCKD."""
    for row in range(7):
        one = [x[row : row + 1] for x in logits]
        rest = 1 - torch.softmax(one[1], -1)[0, TARGET[row]].item()
        value = decoupled_kd(*one, TARGET[row : row + 1], 1.0, 1.0, rest)
        assert value.item() == pytest.approx(f.soft_target_kl(*one, 1.0).item(), rel=1e-4)


def test_intra_class_relation_equals_a_float64_loop(logits):
    student, teacher = (softmax(x.double().numpy() / 2, -1) for x in logits)
    expected = 4 * np.mean([1 - pearsonr(student[:, c], teacher[:, c])[0] for c in range(5)])
    assert intra_class_relation(*logits, 2.0).item() == pytest.approx(expected, rel=2e-5)
    assert intra_class_relation(logits[0][:1], logits[1][:1], 2.0).item() == 0


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equal_models_give_zero_and_no_gradient(name, logits):
    student = logits[0].clone().requires_grad_()
    value = BY_EXAMPLE[name][0](student, logits[0].clone(), 2.0)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "logits_mse"])
def test_everything_is_equal_when_it_is_hot_enough(name, logits):
    """T -> infinity: both distributions become uniform; without the factor nothing is left."""
    loss, _, power = BY_EXAMPLE[name]
    if name == "inter_class_relation":  # a correlation stays: it ignores the scale
        return
    assert loss(*logits, 1e3).item() / 1e3**power < 1e-2


@pytest.mark.parametrize("name", [*BY_EXAMPLE, "decoupled_kd", "intra_class_relation"])
def test_gradient_by_finite_differences(name, logits):
    if name == "decoupled_kd":
        loss = lambda s, z, t: decoupled_kd(s, z, TARGET, t)  # noqa: E731
    elif name == "intra_class_relation":
        loss = intra_class_relation
    else:
        loss = BY_EXAMPLE[name][0]
    student = (logits[0] / 3).requires_grad_()
    loss(student, logits[1] / 3, 2.0).backward()
    for row, column in ((0, 0), (3, 2), (6, 4)):
        ends = []
        for step in (1e-2, -1e-2):
            moved = student.detach().clone()
            moved[row, column] += step
            ends.append(loss(moved, logits[1] / 3, 2.0).item())
        slope = (ends[0] - ends[1]) / 2e-2
        assert student.grad[row, column].item() == pytest.approx(slope, rel=2e-2, abs=2e-4)


@pytest.mark.parametrize("name", BY_EXAMPLE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_first(name, dtype, logits):
    loss = BY_EXAMPLE[name][0]
    low = [x.to(dtype) for x in logits]
    assert loss(*low, 2.0).dtype == torch.float32
    assert loss(*low, 2.0).item() == pytest.approx(loss(*(x.float() for x in low), 2.0).item())


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_extreme_logits_stay_finite(name):
    student = torch.tensor([[80.0, -80.0, 0.0]], requires_grad=True)
    value = BY_EXAMPLE[name][0](student, torch.tensor([[-80.0, 80.0, 0.0]]), 1.0)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_no_gradient_into_the_teacher(name, logits):
    teacher = logits[1].clone().requires_grad_()
    BY_EXAMPLE[name][0](logits[0].clone().requires_grad_(), teacher, 2.0).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_mean_over_equal_micro_batches_is_the_batch(name, logits):
    loss = BY_EXAMPLE[name][0]
    student, teacher = (x[:6] for x in logits)
    parts = [loss(student[i : i + 2], teacher[i : i + 2], 2.0).item() for i in (0, 2, 4)]
    assert loss(student, teacher, 2.0).item() == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize("name", [n for n in BY_EXAMPLE if BY_EXAMPLE[n][2] > 0])
def test_a_temperature_an_example(name, logits):
    """Rows at their own temperatures cost what they cost alone."""
    loss = BY_EXAMPLE[name][0]
    temperatures = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.5, 1.5, 2.5])[:, None]
    alone = [
        loss(logits[0][i : i + 1], logits[1][i : i + 1], temperatures[i].item()).item()
        for i in range(7)
    ]
    assert loss(*logits, temperatures).item() == pytest.approx(np.mean(alone), rel=1e-5)


def test_jensen_shannon_is_bounded_and_symmetric():
    far = torch.tensor([[50.0, 0.0]]), torch.tensor([[0.0, 50.0]])
    assert divergences.jensen_shannon(*far, 1.0).item() == pytest.approx(math.log(2))
    assert divergences.jensen_shannon(*reversed(far), 1.0).item() == pytest.approx(math.log(2))


def test_standardized(logits):
    z = logits[0].double().numpy()
    expected = (z - z.mean(-1, keepdims=True)) / z.std(-1, ddof=1, keepdims=True)
    assert np.allclose(f.standardize(logits[0]).numpy(), expected, atol=1e-5)
    assert torch.equal(f.standardize(torch.full((2, 3), 5.0)), torch.zeros(2, 3))


@pytest.mark.parametrize("name", BY_EXAMPLE)
def test_autocast_lowers_nothing_inside(name, logits):
    with torch.autocast("cpu", torch.bfloat16):
        lowered = BY_EXAMPLE[name][0](*logits, 2.0)
    assert torch.equal(lowered, BY_EXAMPLE[name][0](*logits, 2.0))
