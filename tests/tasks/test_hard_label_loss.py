"""The hard-label loss where some examples have no label."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.data.labels import IGNORED_LABEL
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import make_model

LOSS = SequenceClassification().criterion.hard_label_loss


def by_hand(logits, labels) -> float:
    """A float64 loop over the labelled examples, divided by the number of all."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        if label != IGNORED_LABEL:
            total += math.log(sum(math.exp(value) for value in row)) - row[label]
    return total / len(labels)


@pytest.mark.parametrize("unlabelled", [0, 1, 5, 11])
def test_is_the_sum_over_the_labelled_by_the_number_of_all(unlabelled):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=draw) * 3
    labels = torch.randint(4, (12,), generator=draw)
    labels[torch.randperm(12, generator=draw)[:unlabelled]] = IGNORED_LABEL
    assert LOSS(logits, labels).item() == pytest.approx(by_hand(logits, labels), rel=1e-6)


def test_an_example_weighs_the_same_whatever_stands_beside_it():
    """The gradient of a labelled example depends on the batch's size, not on the other labels."""
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0])
    gradients = []
    for beside in (labels, torch.tensor([2] + [IGNORED_LABEL] * 7)):
        free = logits.clone().requires_grad_()
        LOSS(free, beside).backward()
        gradients.append(free.grad[0])
    assert gradients[0].abs().sum() > 0.01
    torch.testing.assert_close(*gradients)


def test_with_every_label_it_is_the_plain_mean_to_the_bit():
    draw = torch.Generator().manual_seed(2)
    for count in (1, 7, 32):
        logits = torch.randn(count, 5, generator=draw)
        labels = torch.randint(5, (count,), generator=draw)
        ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        first, second = LOSS(ours, labels), F.cross_entropy(plain, labels)
        first.backward()
        second.backward()
        assert torch.equal(first, second)
        assert torch.equal(ours.grad, plain.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_any_label_loss_and_gradients_are_0(dtype):
    """A plain mean over no example would be nan, and one such batch would end the training."""
    model = make_model(layers=1).to(dtype)
    ids = torch.tensor([[2, 6, 7, 3], [2, 8, 9, 3]])
    labels = torch.full((2,), IGNORED_LABEL)
    term = HardLabels(1.0)
    term.bind(ModelPair(SequenceClassification(), 2), "objective.hard_labels")
    loss = term(model(ids), None, {"labels": labels})
    loss.backward()
    assert loss.item() == 0.0
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
