"""Which components can be combined: a list of small rules, each with its message.

A rule takes the components and returns the message for the user, or ``None`` if it is satisfied.
A new rule is a function added to :data:`RULES`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from distill.core.errors import UserError
from distill.data.schema import DataSchema
from distill.data.sources.base import DataSource
from distill.modeling.needs import Need
from distill.objectives.objective import Objective, Recipe
from distill.student.base import StudentFactory
from distill.student.from_shape import ShapeFactory
from distill.tasks.base import Task
from distill.teacher.config import TeacherConfig
from distill.teacher.ensemble import EnsembleConfig


class Components(Protocol):
    """The components that rules look at; ``RunComponents`` has them."""

    @property
    def task(self) -> Task:
        """The task."""

    @property
    def source(self) -> DataSource:
        """The source of the examples."""

    @property
    def teacher(self) -> TeacherConfig | EnsembleConfig:
        """The teacher's configuration."""

    @property
    def student(self) -> StudentFactory:
        """The student's factory."""

    @property
    def objective(self) -> Objective | Recipe:
        """The objective."""


Rule = Callable[[Components], str | None]


def check_compatibility(components: Components) -> None:
    """Apply every rule.

    Raises:
        UserError: with the message of the first rule that is violated.
    """
    for rule in RULES:
        if (message := rule(components)) is not None:
            raise UserError(message)


def check_foreign_options(schema: DataSchema, overrides: Sequence[str]) -> None:
    """Refuse options that say nothing about the inputs of a task.

    Args:
        schema: the task's, which names them.
        overrides: as they were given.

    Raises:
        UserError: naming the first one.
    """
    for override in overrides:
        name = override.lstrip("+~").partition("=")[0]
        if name in schema.foreign_options:
            raise UserError(
                f"{override}: it says nothing about the {schema.inputs_are} of "
                f"task={schema.task_name}: leave it out"
            )


def task_needs_a_head_of_the_student(components: Components) -> str | None:
    """Refuse students that have no head for the task."""
    task, student = components.task, components.student
    supported = student.supported_heads
    if supported is None or set(supported) & set(task.head.architectures):
        return None
    others = (
        "choose one with the teacher's layers (student=half, third, narrow, ...) or a small BERT "
        "(student=tiny, ...)"
    )
    if task.token_level and supported == ("ForSequenceClassification",):
        return (
            f"student={student.name} gives one answer to a whole text, and task={task.name} needs "
            f"one per token: {others}"
        )
    if "ForImageClassification" in task.head.architectures:
        others = "choose student=vgg, resnet, mobilenet, vit, convnext or hub"
    return f"student={student.name} has no head for task={task.name}: {others}"


def token_level_task_needs_one_length(components: Components) -> str | None:
    """Refuse a student that reads other tokens than the teacher where each has logits."""
    task, length = components.task, getattr(components.student, "max_length", None)
    if not task.token_level or length is None:
        return None
    return (
        f"student.max_length={length}: task={task.name} compares teacher and student at every "
        "token, both read data.max_length: leave it out"
    )


def masked_lm_needs_unfactorized_embeddings(components: Components) -> str | None:
    """Refuse factorized embeddings for heads that are tied to them."""
    task = components.task
    rank = getattr(components.student, "embedding_size", None)
    if "ForMaskedLM" not in task.head.architectures or not rank:
        return None
    return (
        f"student.embedding_size={rank}: the output layer of task={task.name} is tied to the "
        "word table, which then cannot be factorized: leave it out"
    )


def causal_lm_needs_a_decoder(components: Components) -> str | None:
    """Refuse the shapes of BERT as students of a task that BERT cannot do."""
    student, task = components.student, components.task
    if "ForCausalLM" not in task.head.architectures or not isinstance(student, ShapeFactory):
        return None
    return (
        f"student={student.name} is a BERT, in which every token sees those that it should "
        "predict: for task=causal_lm use student=shape, half, third or single"
    )


def causal_lm_needs_terms_over_tokens(components: Components) -> str | None:
    """Refuse terms that relate tokens of a batch to each other, or need all logits of them."""
    if "ForCausalLM" not in components.task.head.architectures:
        return None
    for name, term in components.objective.active_terms.items():
        if term.reads_logits and not term.row_wise:
            return (
                f"objective.{name}: it is no mean over tokens, which task=causal_lm needs to leave "
                "out whole logits: use objective=kd, reverse_kl, gkd, distillm or minitron"
            )
    return None


def logits_must_be_small_enough_to_cache(components: Components) -> str | None:
    """Refuse stored teacher outputs for tasks whose logits are too large."""
    if components.task.criterion.caches_logits or components.teacher.outputs != "cached":
        return None
    return (
        f"teacher.outputs=cached: task={components.task.name} has logits for every token of the "
        "vocabulary, too many to be stored: leave it at auto"
    )


def label_options_need_labels(components: Components) -> str | None:
    """Refuse options about labels for a task without labels."""
    if components.task.schema.has_labels:
        return None
    if getattr(components.teacher, "labels", None) is not None:
        return f"teacher.labels names classes: task={components.task.name} has none"
    for option in ("unlabeled", "augmentation"):
        if getattr(components.source, option) is not None:
            return (
                f"data.{option} gives texts without labels, which is all that "
                f"task={components.task.name} reads: leave it out, and put texts into train"
            )
    return None


def augmentation_needs_text(components: Components) -> str | None:
    """Refuse augmentation for tasks whose inputs cannot be changed freely."""
    augmentation = components.source.augmentation
    if augmentation is None or components.task.schema.allows_augmentation:
        return None
    if components.task.schema.inputs_are != "texts":
        return (
            f"augmentation={augmentation.name} makes new texts, and task={components.task.name} "
            f"reads {components.task.schema.inputs_are}: leave it out"
        )
    return (
        f"augmentation={augmentation.name} makes new texts, and the labels of "
        f"task={components.task.name} belong to single words of theirs: leave it "
        "out, data.unlabeled=... gives more to learn from"
    )


def cached_outputs_hold_logits_only(components: Components) -> str | None:
    """Refuse stored outputs where the objective needs more than logits."""
    needs = components.objective.needs - {Need.LOGITS}
    if components.teacher.outputs != "cached" or not needs:
        return None
    return (
        f"teacher.outputs=cached stores logits only, the objective needs {', '.join(sorted(needs))}"
        ": leave it at auto"
    )


def unlabeled_inputs_need_a_teacher(components: Components) -> str | None:
    """Refuse unlabeled inputs where the objective does not use the teacher."""
    if components.objective.needs:
        return None
    for option in ("unlabeled", "augmentation"):
        if getattr(components.source, option) is not None:
            return (
                f"data.{option} gives texts without labels, and this objective "
                f"({components.objective.name}) does not use the teacher: leave it out, or raise "
                "the weight of a term that does, such as objective.soft_targets.weight"
            )
    return None


RULES: tuple[Rule, ...] = (
    causal_lm_needs_a_decoder,  # says more than that there is no head
    task_needs_a_head_of_the_student,
    token_level_task_needs_one_length,
    masked_lm_needs_unfactorized_embeddings,
    causal_lm_needs_terms_over_tokens,
    logits_must_be_small_enough_to_cache,
    label_options_need_labels,
    augmentation_needs_text,
    cached_outputs_hold_logits_only,
    unlabeled_inputs_need_a_teacher,
)
