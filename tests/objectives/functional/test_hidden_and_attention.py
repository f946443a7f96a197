"""Losses on hidden states, attention and relations between examples, against float64 loops."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from distill.objectives.functional import attention, hidden_states, relations

LENGTHS = (4, 2, 3)
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(x, y):
    return 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def normalized(x, y):
    return ((x / np.linalg.norm(x) - y / np.linalg.norm(y)) ** 2).mean()


HIDDEN = {
    "hidden_mse": lambda x, y: ((x - y) ** 2).mean(),
    "hidden_cosine": cosine,
    "hidden_normalized_mse": normalized,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_states_equal_a_float64_loop(name):
    student, teacher = draw(3, 4, 6), draw(3, 4, 6, seed=1)
    expected = np.mean(
        [
            np.mean(
                [
                    HIDDEN[name](*(side[n, token].double().numpy() for side in (student, teacher)))
                    for token in range(length)
                ]
            )
            for n, length in enumerate(LENGTHS)
        ]
    )
    value = getattr(hidden_states, name)(student, teacher, MASK)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def scores_mse(student, teacher, length):
    return ((student - teacher)[:, :length, :length] ** 2).mean()


def maps_kl(student, teacher, length):
    p, q = (log_softmax(side[:, :length, :length], -1) for side in (teacher, student))
    return (np.exp(p) * (p - q)).sum(-1).mean()


ATTENTION = {"attention_scores_mse": scores_mse, "attention_kl": maps_kl}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_equals_a_float64_loop(name):
    student, teacher = draw(3, 2, 4, 4), draw(3, 2, 4, 4, seed=1)
    expected = np.mean(
        [
            ATTENTION[name](student[n].double().numpy(), teacher[n].double().numpy(), length)
            for n, length in enumerate(LENGTHS)
        ]
    )
    assert getattr(attention, name)(student, teacher, MASK).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_relations_equal_a_float64_loop():
    """Other widths and numbers of heads, cut into 4 relation heads."""
    student, teacher = draw(3, 2, 4, 6), draw(3, 4, 4, 5, seed=1)  # widths 12 and 20
    total = 0.0
    for n, length in enumerate(LENGTHS):
        logs = []
        for side in (teacher, student):
            joined = side[n].double().numpy().transpose(1, 0, 2).reshape(4, -1)[:length]
            cut = np.split(joined, 4, axis=1)
            logs.append(np.stack([log_softmax(x @ x.T / np.sqrt(x.shape[1]), -1) for x in cut]))
        p, q = logs
        total += (np.exp(p) * (p - q)).sum(-1).mean() / 3
    value = attention.relation_kl(student, teacher, MASK, 4)
    assert value.item() == pytest.approx(total, rel=1e-5)


def test_scores_are_scaled_products():
    q, k = draw(1, 1, 3, 4), draw(1, 1, 3, 4, seed=1)
    expected = q[0, 0].double() @ k[0, 0].double().T / 2
    assert torch.allclose(attention.attention_scores(q, k)[0, 0].double(), expected, atol=1e-6)


def test_distances_equal_a_float64_loop():
    student, teacher = draw(5, 3), draw(5, 4, seed=1)
    sides = []
    for side in (student, teacher):
        distances = cdist(side.double().numpy(), side.double().numpy())
        sides.append(distances / distances[distances > 0].mean())
    expected = huber(sides[0] - sides[1]).mean()
    assert relations.rkd_distance(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_angles_equal_a_float64_loop():
    student, teacher = draw(4, 3), draw(4, 5, seed=1)
    sides = []
    for side in (student.double().numpy(), teacher.double().numpy()):
        angles = np.zeros((4, 4, 4))
        for j in range(4):
            for i in range(4):
                for k in range(4):
                    a, b = side[i] - side[j], side[k] - side[j]
                    if i != j and k != j:
                        angles[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        sides.append(angles)
    expected = huber(sides[0] - sides[1]).mean()
    assert relations.rkd_angle(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_similarities_equal_a_float64_loop():
    student, teacher = draw(5, 3), draw(5, 4, seed=1)
    grams = [side.double().numpy() @ side.double().numpy().T for side in (student, teacher)]
    grams = [gram / np.linalg.norm(gram, axis=1, keepdims=True) for gram in grams]
    expected = ((grams[0] - grams[1]) ** 2).sum() / 25
    value = relations.similarity_preserving(student, teacher)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def huber(x):
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


# Every masked loss with the tensors it takes, the last two axes or one of which are tokens.
MASKED = {
    "hidden_mse": (hidden_states.hidden_mse, (3, 4, 6)),
    "hidden_cosine": (hidden_states.hidden_cosine, (3, 4, 6)),
    "hidden_normalized_mse": (hidden_states.hidden_normalized_mse, (3, 4, 6)),
    "attention_scores_mse": (attention.attention_scores_mse, (3, 2, 4, 4)),
    "attention_kl": (attention.attention_kl, (3, 2, 4, 4)),
    "relation_kl": (lambda s, t, m: attention.relation_kl(s, t, m, 2), (3, 2, 4, 6)),
}
RELATIONS = ["rkd_distance", "rkd_angle", "similarity_preserving"]


def padded(name, x):
    """Two more tokens of rubbish."""
    sides = (0, 2, 0, 2) if "attention" in name else (0, 0, 0, 2)
    return torch.nn.functional.pad(x, sides, value=7.0)


@pytest.mark.parametrize("name", MASKED)
def test_more_padding_changes_nothing(name):
    loss, shape = MASKED[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    wider = torch.nn.functional.pad(MASK, (0, 2))
    value = loss(padded(name, student), padded(name, teacher), wider)
    assert value.item() == pytest.approx(loss(student, teacher, MASK).item(), rel=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_mean_over_equal_micro_batches_is_the_batch(name):
    loss, shape = MASKED[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    parts = [loss(student[[n]], teacher[[n]], MASK[[n]]).item() for n in range(3)]
    assert loss(student, teacher, MASK).item() == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_all_masked_is_zero_with_finite_gradients(name):
    loss, shape = MASKED[name]
    student = draw(*shape).requires_grad_()
    value = loss(student, draw(*shape, seed=1), torch.zeros_like(MASK))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", [*MASKED, *RELATIONS])
def test_equal_models_give_zero_and_no_gradient(name):
    loss, student = _loss_and_student(name)
    value = loss(student, student.detach().clone())
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("name", [*MASKED, *RELATIONS])
def test_gradient_by_finite_differences(name):
    loss, student = _loss_and_student(name)
    teacher = draw(*student.shape, seed=1)
    loss(student, teacher).backward()
    flat = student.detach().clone().flatten()
    for index in (0, len(flat) // 3, len(flat) // 2):
        ends = []
        for step in (1e-2, -1e-2):
            moved = flat.clone()
            moved[index] += step
            ends.append(loss(moved.view(student.shape), teacher).item())
        slope = (ends[0] - ends[1]) / 2e-2
        got = student.grad.flatten()[index].item()
        assert got == pytest.approx(slope, rel=3e-2, abs=2e-4)


@pytest.mark.parametrize("name", [*MASKED, *RELATIONS])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised_first(name, dtype):
    loss, student = _loss_and_student(name)
    low = student.detach().to(dtype), draw(*student.shape, seed=1).to(dtype)
    value = loss(*low)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(*(x.float() for x in low)).item(), rel=1e-3)


@pytest.mark.parametrize("name", [*MASKED, *RELATIONS])
def test_autocast_lowers_nothing_inside(name):
    """Matrix products under autocast run in bf16, even of fp32 tensors."""
    loss, student = _loss_and_student(name)
    teacher = draw(*student.shape, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = loss(student, teacher)
    assert torch.equal(lowered, loss(student, teacher))


@pytest.mark.parametrize("name", RELATIONS)
def test_a_batch_of_one_and_twins_stay_finite(name):
    loss = getattr(relations, name)
    alone = draw(1, 3).requires_grad_()
    assert loss(alone, draw(1, 3, seed=1)).item() == pytest.approx(0, abs=1e-6)
    twins = draw(1, 3).repeat(4, 1).requires_grad_()
    loss(twins, draw(4, 3, seed=1)).backward()
    assert torch.isfinite(twins.grad).all()
    assert twins.grad.abs().max() < 10
    pair = draw(8, 3)
    pair[3] = pair[5]
    pair.requires_grad_()
    loss(pair, draw(8, 3, seed=1)).backward()
    assert pair.grad.abs().max() < 10  # over a tiny length it would be 1e10


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_ignore_the_scale(name):
    loss, student = getattr(relations, name), draw(5, 3)
    assert loss(student * 4, student).item() == pytest.approx(0, abs=1e-5)


def _loss_and_student(name):
    if name in RELATIONS:
        return getattr(relations, name), draw(4, 3).requires_grad_()
    loss, shape = MASKED[name]
    return lambda s, t: loss(s, t, MASK), draw(*shape).requires_grad_()
