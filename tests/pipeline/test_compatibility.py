"""Which components can be combined: every rule, violated and satisfied."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from distill.core.errors import UserError
from distill.data.augmentation.word_noise import WordNoise
from distill.data.sources.base import DataSource
from distill.objectives.objective import Objective
from distill.objectives.terms.dist import DIST
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.hidden_states import HiddenStates
from distill.objectives.terms.soft_targets import SoftTargets
from distill.pipeline import compatibility
from distill.pipeline.compatibility import RULES, check_compatibility
from distill.student.base import StudentFactory
from distill.student.bilstm import BiLSTMFactory
from distill.student.cnn import CNNFactory
from distill.student.from_layers import LayersFactory
from distill.student.from_shape import ShapeFactory
from distill.student.static import StaticFactory
from distill.tasks.base import Task
from distill.tasks.causal_lm import CausalLM
from distill.tasks.masked_lm import MaskedLM
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from distill.teacher.config import TeacherConfig
from distill.teacher.ensemble import EnsembleConfig
from tests.factories import Given


@dataclass(frozen=True)
class Components:
    """What rules look at, without the rest of a run."""

    task: Task = field(default_factory=SequenceClassification)
    source: DataSource = field(default_factory=lambda: Given({}))
    teacher: Any = field(default_factory=lambda: TeacherConfig(path="teacher"))
    student: StudentFactory = field(default_factory=lambda: LayersFactory(name="s", layers="half"))
    objective: Any = field(
        default_factory=lambda: Objective(
            "kd", soft_targets=SoftTargets(0.5, 2.0), hard_labels=HardLabels(0.5)
        )
    )


USUAL = Components()
NOISE = WordNoise(name="deletion", tokenizer="someone/unheard-of", delete=0.1)
CACHED = TeacherConfig(path="teacher", outputs="cached")
FINE_TUNING = Objective("fine_tuning", hard_labels=HardLabels(1.0))
HIDDEN = Objective("hidden", hidden_states=HiddenStates(1.0))

# By rule: components that violate it, and what the message names; components that satisfy it.
VIOLATED = [
    (
        compatibility.task_needs_a_head_of_the_student,
        replace(USUAL, task=task, student=student),
        (f"student={student.name}", f"task={task.name}"),
    )
    for task in (TokenClassification(), QuestionAnswering(), MaskedLM())
    for student in (BiLSTMFactory(name="bilstm"), StaticFactory(name="static"))
] + [
    (
        compatibility.token_level_task_needs_one_length,
        replace(
            USUAL, task=TokenClassification(), student=CNNFactory(name="cnn", max_length=300)
        ),
        ("student.max_length=300", "task=token_classification"),
    ),
    (
        compatibility.task_needs_a_head_of_the_student,
        replace(USUAL, task=QuestionAnswering(), student=CNNFactory(name="cnn")),
        ("student=cnn", "task=question_answering"),
    ),
    (
        compatibility.masked_lm_needs_unfactorized_embeddings,
        replace(
            USUAL, task=MaskedLM(),
            student=LayersFactory(name="s", layers="half", embedding_size=8),
        ),
        ("student.embedding_size=8", "task=masked_lm"),
    ),
    (
        compatibility.causal_lm_needs_a_decoder,
        replace(
            USUAL, task=CausalLM(),
            student=ShapeFactory(name="tiny", hidden_layers=2, hidden_size=128),
        ),
        ("student=tiny", "task=causal_lm", "student=shape"),
    ),
    (
        compatibility.causal_lm_needs_terms_over_tokens,
        replace(
            USUAL, task=CausalLM(), objective=Objective("dist", dist=DIST(1.0, 4.0))
        ),
        ("objective.dist", "task=causal_lm"),
    ),
    (
        compatibility.logits_must_be_small_enough_to_cache,
        replace(USUAL, task=MaskedLM(), teacher=CACHED),
        ("teacher.outputs=cached", "task=masked_lm"),
    ),
    (
        compatibility.label_options_need_labels,
        replace(USUAL, task=MaskedLM(), teacher=TeacherConfig(path="t", labels=["a", "b"])),
        ("teacher.labels", "task=masked_lm"),
    ),
    (
        compatibility.label_options_need_labels,
        replace(USUAL, task=MaskedLM(), source=Given({}, unlabeled="more.txt")),
        ("data.unlabeled", "task=masked_lm"),
    ),
    (
        compatibility.label_options_need_labels,
        replace(USUAL, task=MaskedLM(), source=Given({}, augmentation=NOISE)),
        ("data.augmentation", "task=masked_lm"),
    ),
    (
        compatibility.augmentation_needs_text,
        replace(USUAL, task=TokenClassification(), source=Given({}, augmentation=NOISE)),
        ("augmentation=deletion", "task=token_classification"),
    ),
    (
        compatibility.augmentation_needs_text,
        replace(USUAL, task=QuestionAnswering(), source=Given({}, augmentation=NOISE)),
        ("augmentation=deletion", "task=question_answering"),
    ),
    (
        compatibility.cached_outputs_hold_logits_only,
        replace(USUAL, teacher=CACHED, objective=HIDDEN),
        ("teacher.outputs=cached", "hidden_states"),
    ),
    (
        compatibility.cached_outputs_hold_logits_only,
        replace(
            USUAL, teacher=EnsembleConfig(paths=["a", "b"], outputs="cached"), objective=HIDDEN
        ),
        ("teacher.outputs=cached", "hidden_states"),
    ),
    (
        compatibility.unlabeled_inputs_need_a_teacher,
        replace(USUAL, objective=FINE_TUNING, source=Given({}, unlabeled="more.txt")),
        ("data.unlabeled", "objective.soft_targets.weight"),
    ),
    (
        compatibility.unlabeled_inputs_need_a_teacher,
        replace(USUAL, objective=FINE_TUNING, source=Given({}, augmentation=NOISE)),
        ("data.augmentation", "objective.soft_targets.weight"),
    ),
]  # fmt: skip
SATISFIED = [
    (
        compatibility.token_level_task_needs_one_length,
        replace(USUAL, student=CNNFactory(name="cnn", max_length=300)),
    ),
    (compatibility.task_needs_a_head_of_the_student, replace(USUAL, task=TokenClassification())),
    (
        compatibility.task_needs_a_head_of_the_student,
        replace(USUAL, task=TokenClassification(), student=CNNFactory(name="cnn")),
    ),
    (
        compatibility.task_needs_a_head_of_the_student,
        replace(USUAL, student=StaticFactory(name="static")),
    ),
    (compatibility.masked_lm_needs_unfactorized_embeddings, replace(USUAL, task=MaskedLM())),
    (
        compatibility.masked_lm_needs_unfactorized_embeddings,
        replace(USUAL, student=LayersFactory(name="s", layers="half", embedding_size=8)),
    ),
    (compatibility.causal_lm_needs_a_decoder, replace(USUAL, task=CausalLM())),
    (compatibility.causal_lm_needs_terms_over_tokens, replace(USUAL, task=CausalLM())),
    (compatibility.logits_must_be_small_enough_to_cache, replace(USUAL, teacher=CACHED)),
    (compatibility.logits_must_be_small_enough_to_cache, replace(USUAL, task=MaskedLM())),
    (compatibility.label_options_need_labels, replace(USUAL, task=MaskedLM())),
    (
        compatibility.label_options_need_labels,
        replace(
            USUAL,
            source=Given({}, unlabeled="more.txt", augmentation=NOISE),
            teacher=TeacherConfig(path="t", labels=["a", "b"]),
        ),
    ),
    (
        compatibility.augmentation_needs_text,
        replace(USUAL, source=Given({}, augmentation=NOISE)),
    ),
    (
        compatibility.augmentation_needs_text,
        replace(USUAL, task=TokenClassification(), source=Given({}, unlabeled="more.txt")),
    ),
    (compatibility.cached_outputs_hold_logits_only, replace(USUAL, teacher=CACHED)),
    (compatibility.cached_outputs_hold_logits_only, replace(USUAL, objective=HIDDEN)),
    (
        compatibility.unlabeled_inputs_need_a_teacher,
        replace(USUAL, source=Given({}, unlabeled="more.txt", augmentation=NOISE)),
    ),
    (compatibility.unlabeled_inputs_need_a_teacher, replace(USUAL, objective=FINE_TUNING)),
]


def name_of(value: Any) -> str:
    return getattr(value, "__name__", "")


@pytest.mark.parametrize(("rule", "components", "names"), VIOLATED, ids=name_of)
def test_a_violated_rule_names_the_options(rule, components, names):
    message = rule(components)
    assert message is not None
    for name in names:
        assert name in message
    assert "\n" not in message
    # The run is refused too, by this rule or by an earlier one that is violated as well.
    with pytest.raises(UserError) as refused:
        check_compatibility(components)
    assert str(refused.value) in {found for one in RULES if (found := one(components))}


@pytest.mark.parametrize(("rule", "components"), SATISFIED, ids=name_of)
def test_a_satisfied_rule_says_nothing(rule, components):
    assert rule(components) is None


def test_the_usual_components_satisfy_every_rule():
    assert [rule(USUAL) for rule in RULES] == [None] * len(RULES)
    check_compatibility(USUAL)


def test_the_first_violated_rule_is_answered(monkeypatch):
    rules = (lambda _: None, lambda _: "first", lambda _: "second")
    monkeypatch.setattr(compatibility, "RULES", rules)
    with pytest.raises(UserError, match=r"^first$"):
        check_compatibility(SimpleNamespace())


@pytest.mark.parametrize("cases", [VIOLATED, SATISFIED], ids=["violated", "satisfied"])
def test_every_rule_has_a_case(cases):
    assert {rule for rule, *_ in cases} == set(RULES)


def test_every_rule_of_the_module_is_in_the_list():
    annotated = {
        value
        for value in vars(compatibility).values()
        if getattr(value, "__module__", None) == compatibility.__name__
        and getattr(value, "__annotations__", {}).get("return") == str | None
    }
    assert annotated == set(RULES)
