"""The hard-label losses of regression and multi-label, with and without labels; heads that fit."""

import math

import pytest
import torch
import torch.nn.functional as F

from distill.core.errors import UserError
from distill.modeling.ensemble import Ensemble
from distill.modeling.features import ModelOutputs
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.multi_label import MultiLabel
from distill.tasks.regression import Regression
from distill.teacher.config import TeacherConfig
from distill.teacher.prepare import _trained_output_order
from tests.factories import make_model


def example(task, count=12, classes=4):
    draw = torch.Generator().manual_seed(0)
    if isinstance(task, Regression):
        return torch.randn(count, 1, generator=draw) * 3, torch.randn(count, generator=draw)
    logits = torch.randn(count, classes, generator=draw) * 3
    return logits, torch.randint(2, (count, classes), generator=draw)


def by_hand(task, logits, labels) -> float:
    """A float64 loop over the labelled examples, divided by the number of all."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        if isinstance(task, Regression):
            total += 0.0 if math.isnan(label) else (row[0] - label) ** 2
        elif label[0] != -100:
            total += sum(
                math.log1p(math.exp(-z if y else z)) for z, y in zip(row, label, strict=True)
            )
    return total / len(labels)


def without(task, labels, where):
    names = ["score"] if isinstance(task, Regression) else list("abcd")
    labels = labels.clone()
    labels[where] = torch.tensor(task.schema.missing_label(names), dtype=labels.dtype)
    return labels


TASKS = [Regression(), MultiLabel()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("unlabelled", [0, 1, 5, 11])
def test_is_the_sum_over_the_labelled_by_the_number_of_all(task, unlabelled):
    logits, labels = example(task)
    labels = without(task, labels, torch.randperm(12)[:unlabelled])
    assert task.criterion.hard_label_loss(logits, labels).item() == pytest.approx(
        by_hand(task, logits, labels), rel=1e-5
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_example_weighs_the_same_whatever_stands_beside_it(task):
    logits, labels = example(task, 8)
    gradients = []
    for beside in (labels, without(task, labels, slice(1, None))):
        free = logits.clone().requires_grad_()
        task.criterion.hard_label_loss(free, beside).backward()
        assert free.grad.isfinite().all()
        gradients.append(free.grad[0])
    assert gradients[0].abs().sum() > 0.01
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_any_label_loss_and_gradients_are_0(task, dtype):
    logits, labels = example(task)
    logits = logits.to(dtype).requires_grad_()
    term = HardLabels(1.0)
    term.bind(ModelPair(task, logits.shape[1]), "objective.hard_labels")
    loss = term(ModelOutputs(logits), None, {"labels": without(task, labels, slice(None))})
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_with_every_label_they_are_what_transformers_trains_on():
    """Up to the number of classes, by which its mean is smaller."""
    logits, labels = example(Regression())
    assert torch.allclose(
        Regression().criterion.hard_label_loss(logits, labels), F.mse_loss(logits.squeeze(), labels)
    )
    logits, labels = example(MultiLabel())
    assert torch.allclose(
        MultiLabel().criterion.hard_label_loss(logits, labels),
        4 * F.binary_cross_entropy_with_logits(logits, labels.float()),
    )


def test_soft_labels_of_regression_are_the_teachers_numbers():
    term = SoftTargets(1.0, temperature=4.0)
    term.bind(ModelPair(Regression(), 1), "objective.soft_targets")
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.5]])
    assert term(ModelOutputs(student), ModelOutputs(teacher), {}).item() == pytest.approx(
        (4 + 0.25) / 2
    )


# --- heads --------------------------------------------------------------------------------------


def config(*labels, kind):
    made = make_model(labels=labels, layers=1).config
    made.problem_type, made.architectures = kind, ["BertForSequenceClassification"]
    return made


def head(task, names, theirs, kind, **settings):
    given = TeacherConfig(path="there", **settings)
    return _trained_output_order(config(*theirs, kind=kind), given, names, task)


def test_a_regression_head_has_one_output_and_says_so(caplog):
    task = Regression()
    assert head(task, ["score"], ["LABEL_0"], "regression") == [0]
    assert head(task, ["score"], ["similarity"], "regression") == [0]
    assert head(task, ["score"], ["LABEL_0", "LABEL_1"], "regression") is None
    assert head(task, ["score"], ["LABEL_0"], None) is None
    assert "teacher.labels=[score]" in caplog.text
    assert head(task, ["score"], ["LABEL_0"], None, labels=["score"]) == [0]
    with pytest.raises(UserError, match="is trained for multi_label_classification"):
        head(task, ["score"], ["a"], "multi_label_classification", labels=["score"])


def test_a_head_for_divided_labels_fits_the_same_division_alone():
    task = Regression(scale=100)
    names = ["score / 100"]
    assert head(task, names, ["score / 100"], "regression") == [0]
    assert head(task, names, ["score / 10"], "regression") is None
    assert head(task, names, ["LABEL_0"], "regression") is None
    assert head(Regression(), ["score"], ["score / 100"], "regression") is None


def test_a_softmax_head_is_none_for_many_labels_and_the_reverse():
    names, theirs = ["a", "b", "c"], ["C", "a", "b"]
    many, kind = MultiLabel(), "multi_label_classification"
    assert head(many, names, theirs, kind) == [1, 2, 0]
    assert head(many, names, theirs, "single_label_classification") is None
    assert head(many, names, theirs, None) is None
    assert head(many, names, theirs, None, labels=theirs) == [1, 2, 0]
    from distill.tasks.sequence_classification import SequenceClassification

    single = SequenceClassification()
    assert head(single, names, theirs, None) == [1, 2, 0]
    assert head(single, names, theirs, "single_label_classification") == [1, 2, 0]
    assert head(single, names, theirs, kind) is None


# --- ensembles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_an_ensemble_averages_what_the_task_predicts(temperature):
    draw = torch.Generator().manual_seed(0)
    for kind, width in (("regression", 1), ("multi_label_classification", 3)):
        members = {name: make_model(labels=["x"] * width, layers=1) for name in "ab"}
        for member in members.values():
            member.config.problem_type = kind
        ensemble = Ensemble(members, "probabilities", {"a": 0.25, "b": 0.75})
        logits = torch.randn(5, 2, width, generator=draw) * 4
        said = ensemble.combine_cached_logits(logits).logits_at(temperature)
        if kind == "regression":
            expected = 0.25 * logits[:, 0] + 0.75 * logits[:, 1]
        else:
            softened = torch.sigmoid(logits.double() / temperature)
            expected = torch.logit(0.25 * softened[:, 0] + 0.75 * softened[:, 1]) * temperature
        torch.testing.assert_close(said, expected.float(), rtol=1e-4, atol=1e-4)
