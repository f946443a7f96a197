"""Which runs are frozen: groups of cases, each with a cache of its own and a fixed order."""

from dataclasses import dataclass

COMMON = (
    "data=files", "cache_dir=cache", "data.max_length=24", "data.batch_size=8",
    "teacher.batch_size=8", "teacher.epochs=2", "teacher.learning_rate=3e-3",
    "optimizer.learning_rate=3e-3", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
    "trainer.precision=32-true", "trainer.accelerator=cpu",
)  # fmt: skip
# Stages that say themselves how long they are: as short as the others.
SHORT = {
    "tinybert": (
        "objective.intermediate.epochs=null", "objective.prediction.epochs=1",
        "objective.intermediate.learning_rate=1e-3", "objective.prediction.learning_rate=null",
    ),
    "patient": ("objective.prediction.epochs=null",),
}  # fmt: skip
OBJECTIVES = (
    "kd", "kd_mse", "dkd", "dist", "distilbert", "pkd", "tinybert", "minilm", "minilmv2", "patient",
)  # fmt: skip
# Data and the teacher whose head is trained for it, by task.
TASKS = {
    "sequence_classification": ("classes", "classes"),
    "regression": ("ratings", "score"),
    "multi_label": ("labels", "labels"),
    "token_classification": ("tags", "tags"),
    "question_answering": ("answers", "span"),
    "masked_lm": ("text", "bare"),
}


@dataclass(frozen=True)
class Case:
    """One run of the command.

    Attributes:
        name: of the case and of the run's folder.
        overrides: of the command line, behind the common ones.
        stops_at: the optimizer step before which the run is cut off, to be resumed; ``None``: it
            is not.
        apart: whether the command runs in a process of its own.
    """

    name: str
    overrides: tuple[str, ...]
    stops_at: int | None = None
    apart: bool = False

    @property
    def arguments(self) -> list[str]:
        """The whole command line."""
        has_student = any(override.startswith("student=") for override in self.overrides)
        student = () if has_student else ("student=half",)
        return [*COMMON, *student, *self.overrides, f"output_dir={self.name}"]


@dataclass(frozen=True)
class Group:
    """Cases that share a cache, in this order; one golden file.

    Attributes:
        name: of the file.
        cases: in the order in which they run.
        slow: whether it is left out of the quick loop.
    """

    name: str
    cases: tuple[Case, ...]
    slow: bool = True


def _on(task: str, *more: str, data: str = "", teacher: str = "") -> tuple[str, ...]:
    """The overrides of a task with its data and a teacher that is used as it is."""
    usual_data, usual_teacher = TASKS[task]
    window = ("data.max_length=18",) if task == "question_answering" else ()
    return (
        f"task={task}", f"data.path=data/{data or usual_data}",
        f"teacher.path=models/{teacher or usual_teacher}", *window, *more,
    )  # fmt: skip


def _fine_tuned() -> tuple[Case, ...]:
    """kd on every task with a teacher that is fine-tuned first, and a control."""
    forced = {"masked_lm": ("teacher.fine_tune=true",)}
    return tuple(
        Case(f"kd-{task}", _on(task, "objective=kd", *forced.get(task, ()), teacher="bare"))
        for task in TASKS
    )


def _objectives(task: str, *chosen: str) -> tuple[Case, ...]:
    """Presets on a task."""
    cases = [
        Case(name, _on(task, f"objective={name}", *SHORT.get(name, ()), "control=false"))
        for name in chosen or OBJECTIVES
    ]
    return tuple(cases)


def _objectives_of_tokens(task: str) -> tuple[Case, ...]:
    """Presets on a task with one output per token, and PKD with all of them."""
    pkd = ("objective=pkd", "objective.hidden_states.tokens=all", "control=false")
    return (*_objectives(task), Case("pkd-all_tokens", _on(task, *pkd)))


def _ensemble(task: str, *more: str) -> tuple[str, ...]:
    """The overrides of a task with several teachers; ``more`` names them."""
    data = TASKS[task][0]
    return (f"task={task}", f"data.path=data/{data}", "teacher=ensemble", *more)


def _ensembles() -> tuple[Case, ...]:
    both = "teacher.paths=[models/classes,models/other_classes]"
    return tuple(
        Case(
            combine,
            _ensemble("sequence_classification", both, f"teacher.combine={combine}", *more),
        )
        for combine, more in (
            ("probabilities", ("teacher.weights=[0.25,0.75]",)),
            ("logits", ("control=false",)),
        )
    )


def _more_ensembles() -> tuple[Case, ...]:
    both = "teacher.paths={one: models/classes, other: models/other_classes}"
    seeds = ("teacher.paths=[models/bare,models/bare]", "teacher.seeds=[0,1]", "control=false")
    text = "sequence_classification"
    named = "+objective.hidden_states.teacher=other"
    return (
        Case("random", _ensemble(text, both, "teacher.combine=random", "control=false")),
        Case("live", _ensemble(text, both, "teacher.outputs=live", "control=false")),
        Case("pkd-unnamed", _ensemble(text, both, "objective=pkd")),
        Case("pkd-named", _ensemble(text, both, "objective=pkd", named, "control=false")),
        *(Case(f"seeds-{task}", _ensemble(task, *seeds)) for task in TASKS if task != text),
    )


STUDENTS = {
    "half": ("student=half",),
    "third": ("student=third",),
    "single": ("student=single",),
    "layers": ("student=half", "student.layers=[3,1]"),
    "tiny": ("student=tiny", "student.hidden_size=64"),
    "narrow": ("student=narrow",),
    "narrow-first": (
        "student=half", "student.heads=1", "student.intermediate_size=0.5",
        "student.importance=first",
    ),
    "bilstm": ("student=bilstm", "student.embedding_size=16", "student.hidden_size=16"),
    "bilstm-outputs": (
        "student=bilstm", "student.start=outputs", "student.hidden_size=16",
        "student.hidden_layers=2", "student.pooling=mean", "student.vocabulary=corpus",
    ),
    "static": ("student=static", "student.hidden_size=16", "student.head_size=16"),
    "static-random": (
        "student=static", "student.start=random", "student.weighting=none", "student.head_size=0",
    ),
    "hub": ("student=hub", "student.path=models/small"),
    "vocabulary-corpus": ("student=half", "student.vocabulary=corpus"),
    "vocabulary-number": ("student=half", "student.vocabulary=20"),
    "embedding_size": ("student=half", "student.embedding_size=8"),
}  # fmt: skip


def _students() -> tuple[Case, ...]:
    cases = [
        Case(name, _on("sequence_classification", *student, "control=false"))
        for name, student in STUDENTS.items()
    ]
    own = ("narrow", "bilstm", "static", "tiny", "embedding_size", "vocabulary-corpus")
    cases += [
        Case(f"{name}-{task}", _on(task, *STUDENTS[name], "control=false"))
        for task in ("token_classification", "masked_lm")
        for name in own
    ]
    narrow = ("student=narrow", "student.layers=half", "objective=tinybert", *SHORT["tinybert"])
    cases.append(Case("narrow-tinybert", _on("sequence_classification", *narrow, "control=false")))
    one = ("student.heads=null", "objective.intermediate.attention_scores.weight=0")
    projected = (*narrow, *one, "student.intermediate_size=null", "control=false")
    cases.append(Case("narrow-projected", _on("sequence_classification", *projected)))
    minilmv2 = ("objective=minilmv2", "student=narrow", "control=false")
    cases.append(Case("narrow-minilmv2", _on("sequence_classification", *minilmv2)))
    return tuple(cases)


def _schedules() -> tuple[Case, ...]:
    weight, temperature = "objective.soft_targets.weight", "objective.soft_targets.temperature"
    choices = {
        "linear-step": (
            f"+schedule@{weight}=linear", f"{weight}.start=0", f"{weight}.end=2",
            f"+schedule@{temperature}=step", f"{temperature}.values=[4,1]",
            f"{temperature}.at=[0.5]",
        ),
        "cosine-constant": (
            f"+schedule@{weight}=cosine", f"{weight}.finish=0.5",
            f"+schedule@{temperature}=constant", f"{temperature}.value=3",
        ),
        "cwsm": (f"+schedule@{temperature}=cwsm",),
        "flsw": (f"+schedule@{temperature}=flsw",),
    }  # fmt: skip
    return tuple(
        Case(f"schedule-{name}", _on("sequence_classification", *choice, "control=false"))
        for name, choice in choices.items()
    )


def _training() -> tuple[Case, ...]:
    """What data, teacher's outputs and trainer can be, one at a time."""
    text, recipe = "sequence_classification", ("objective=tinybert", *SHORT["tinybert"])
    alone = "control=false"
    options = {
        "unlabelled": ("data.unlabelled=data/more.txt", "data.limit=40"),
        "combined": ("augmentation=combined", "data.augmentation.copies=2", "data.limit=40"),
        "deletion": ("augmentation=deletion", "data.augmentation.copies=1", alone),
        "ngrams": ("augmentation=ngrams", "data.augmentation.copies=1", alone),
        "masking": (
            "augmentation=masking", "data.augmentation.copies=1", "data.limit=24",
            "data.augmentation.model=models/bare", alone,
        ),
        "live": ("teacher.outputs=live", alone),
        "bf16": ("trainer.precision=bf16-mixed",),
        "standardise": ("objective.soft_targets.standardise=true", alone),
        "accumulated": ("trainer.accumulate_grad_batches=2", "optimizer.decay=cosine", alone),
        "stopped_early": ("trainer.patience=1", "trainer.max_epochs=5", "seed=3", alone),
        "per_class": ("task.per_class=true", "task.metric=macro_f1", alone),
        "no_teacher": ("objective.soft_targets.weight=0",),
    }  # fmt: skip
    return (
        *(Case(name, _on(text, *option)) for name, option in options.items()),
        *(Case(f"two_classes-{name}", _on(
            text, f"objective={name}", alone, data="two_classes", teacher="two_classes"))
          for name in ("kd", "dkd", "dist")),
        Case("conll", _on("token_classification", "task.per_class=true", alone, data="conll")),
        Case("masked_lm-words", _on(
            "masked_lm", "task.whole_word=true", "task.smoothing=0.7", "task.mlm_probability=0.25",
            alone)),
        Case("whole", _on(text, *recipe)),
        Case("resumed-intermediate", _on(text, *recipe, alone), stops_at=13),
        Case("resumed-prediction", _on(text, *recipe, alone), stops_at=24),
        Case("resumed-masked_lm", _on("masked_lm", alone), stops_at=14),
    )  # fmt: skip


def _processes() -> tuple[Case, ...]:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    return (Case("kd", _on("sequence_classification", *two, teacher="bare"), apart=True),)


GROUPS = (
    Group("kd", _fine_tuned(), slow=False),
    Group(
        "quick",
        (
            *_objectives(
                "sequence_classification", "dkd", "distilbert", "pkd", "tinybert", "minilmv2"
            ),
            *_ensembles(),
        ),
        slow=False,
    ),
    Group(
        "sequence_classification",
        _objectives("sequence_classification", "kd", "kd_mse", "dist", "minilm", "patient"),
    ),
    Group("regression", _objectives("regression")),
    Group("multi_label", _objectives("multi_label")),
    Group("token_classification", _objectives_of_tokens("token_classification")),
    Group("question_answering", _objectives_of_tokens("question_answering")),
    Group("masked_lm", _objectives_of_tokens("masked_lm")),
    Group("ensembles", _more_ensembles()),
    Group("students", _students()),
    Group("schedules", _schedules()),
    Group("training", _training()),
    Group("processes", _processes()),
)
