"""What every term promises, of every term that there is: a new one is tested by being there."""

import dataclasses
import importlib
import inspect
import math
import pickle
import pkgutil
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import distill.objectives.terms
from distill.core.errors import UserError
from distill.modeling.features import AttentionStates, ModelOutputs
from distill.modeling.needs import Need
from distill.modeling.shape import ModelShape
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import CWSM, FLSW
from distill.objectives.terms.base import Term
from distill.objectives.terms.logit_term import LogitTerm

ROOT = Path(__file__).parents[3]
PACKAGE = "distill.objectives.terms"
for module in pkgutil.walk_packages(distill.objectives.terms.__path__, f"{PACKAGE}."):
    importlib.import_module(module.name)


def subclasses(cls: type) -> list[type]:
    """All that are defined in the package, in a stable order."""
    found = {sub for direct in cls.__subclasses__() for sub in (direct, *subclasses(direct))}
    here = [sub for sub in found if sub.__module__.startswith(PACKAGE)]
    return sorted(here, key=lambda sub: sub.__qualname__)


TERMS = [cls for cls in subclasses(Term) if not inspect.isabstract(cls)]
every_term = pytest.mark.parametrize("cls", TERMS, ids=lambda cls: cls.__name__)
# Losses whose minimum is not where the student equals the teacher: those against a single class.
AGAINST_ONE_CLASS = {"HardLabels", "HardTeacherLabels"}

CLASSES, EXAMPLES, LENGTH, LAYERS, WIDTH, HEADS = 4, 6, 5, 2, 8, 2
MAPS = {"stride2": (3, 4, 4), "stride4": (5, 2, 2)}
SHAPE = ModelShape(LAYERS, WIDTH, HEADS, feature_maps=MAPS)
TASK = SimpleNamespace(
    name="toy",
    token_level=False,
    criterion=SimpleNamespace(
        distribution="categorical",
        hard_label_loss=lambda logits, labels: F.cross_entropy(logits.float(), labels),
    ),
)
BATCH = {"labels": torch.tensor([0, 1, 2, 3, 0, 1])}


def random_outputs(seed: int, dtype: torch.dtype = torch.float32) -> ModelOutputs:
    """Random outputs of a model; all of them are leaves with a gradient."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()

    mask = torch.ones(EXAMPLES, LENGTH, dtype=torch.int64)
    mask[1, 3:] = 0
    heads = (EXAMPLES, HEADS, LENGTH, WIDTH // HEADS)
    return ModelOutputs(
        random(EXAMPLES, CLASSES),
        tuple(random(EXAMPLES, LENGTH, WIDTH) for _ in range(LAYERS + 1)),
        tuple(AttentionStates(random(*heads), random(*heads), random(*heads)) for _ in range(2)),
        mask,
        feature_maps={name: random(EXAMPLES, *size) for name, size in MAPS.items()},
    )


def tensors(outputs: ModelOutputs) -> list[Tensor]:
    """All tensors of random outputs that have a gradient."""
    attention = [getattr(one, field.name) for one in outputs.attention
                 for field in dataclasses.fields(one)]  # fmt: skip
    return [outputs.logits, *outputs.hidden_states, *attention, *outputs.feature_maps.values()]


def bound(cls: type, **settings) -> Term:
    term = cls(**settings)
    term.bind(ModelPair(TASK, CLASSES, SHAPE, {None: SHAPE}), "objective.term")
    return term


def test_all_of_them_are_found():
    assert len(TERMS) >= 18


@every_term
def test_needs_are_declared(cls):
    needs = cls().needs
    assert isinstance(needs, frozenset)
    assert all(isinstance(need, Need) for need in needs)
    if not needs:  # works without a teacher
        assert torch.isfinite(bound(cls)(random_outputs(0), None, BATCH))


@pytest.mark.parametrize("cls", [Term, *subclasses(Term)], ids=lambda cls: cls.__name__)
def test_every_argument_is_documented(cls):
    assert inspect.getdoc(cls), f"{cls.__name__} has no docstring"
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(cls), re.MULTILINE)
    for name in inspect.signature(cls).parameters:
        assert name in documented, f"{cls.__name__} does not document {name}"


@every_term
def test_settings_rebuild_the_term(cls):
    defaults = cls().settings
    assert list(defaults) == list(inspect.signature(cls).parameters)
    assert cls(**defaults).settings == defaults
    for name, value in defaults.items():
        other = {bool: not value, float: 0.3}.get(type(value))
        if other is not None:
            assert cls(**{name: other}).settings == defaults | {name: other}


@every_term
def test_trains_the_student_and_not_the_teacher(cls):
    student, teacher = random_outputs(0), random_outputs(1)
    loss = bound(cls)(student, teacher, BATCH)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    gradients = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(tensor.grad is None for tensor in tensors(teacher))
    assert (student.logits.grad is not None) == cls().trains_head


@every_term
def test_reads_only_what_it_needs(cls):
    """Outputs that it has not asked for are not there in a training."""
    term = bound(cls)

    def asked_for(outputs: ModelOutputs) -> ModelOutputs:
        if Need.HIDDEN_STATES not in term.needs:
            outputs.hidden_states = None
        if Need.ATTENTION not in term.needs:
            outputs.attention = None
        if Need.FEATURE_MAPS not in term.needs:
            outputs.feature_maps = {}
        if term.needs <= {Need.LOGITS}:  # stored logits come alone
            outputs.mask = None
        return outputs

    student, teacher = random_outputs(0), random_outputs(1)
    expected = term(student, teacher, BATCH)
    assert torch.equal(term(asked_for(student), asked_for(teacher), BATCH), expected)


@pytest.mark.parametrize(
    "cls", [cls for cls in TERMS if cls.__name__ not in AGAINST_ONE_CLASS], ids=lambda c: c.__name__
)
def test_is_minimal_where_the_student_equals_the_teacher(cls):
    term, teacher = bound(cls), random_outputs(0)
    student = random_outputs(0)
    least = term(student, teacher, BATCH)
    least.backward()
    for tensor in tensors(student):
        assert tensor.grad is None or tensor.grad.abs().max() < 1e-5
    for seed in (1, 2, 3):
        assert term(random_outputs(seed), teacher, BATCH) > least
    if cls.__name__ != "SoftCrossEntropy":  # which leaves the teacher's entropy
        assert least.item() == pytest.approx(0, abs=1e-5)


@every_term
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_compared_in_fp32(cls, dtype):
    term = bound(cls)
    value = term(random_outputs(0, dtype), random_outputs(1, dtype), BATCH)
    assert value.dtype == torch.float32
    whole = term(random_outputs(0), random_outputs(1), BATCH)
    assert value.item() == pytest.approx(whole.item(), rel=0.05)


@every_term
@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_impossible_weights_are_refused(cls, weight):
    with pytest.raises(UserError, match="weight"):
        Objective("any", term=cls(weight=weight)).check()


@every_term
def test_a_weight_of_0_leaves_it_out(cls):
    objective = Objective("any", term=cls(weight=0.0), other=TERMS[0](weight=1.0))
    assert list(objective.active_terms) == ["other"]
    with pytest.raises(UserError, match="sum to 0"):
        Objective("any", term=cls(weight=0.0)).check()


@every_term
def test_a_teacher_that_there_is_not_is_refused(cls):
    if "teacher" not in inspect.signature(cls).parameters:
        assert not cls().needs
        return
    with pytest.raises(UserError, match="no such teacher"):
        bound(cls, teacher="unknown")


@every_term
def test_goes_to_other_processes(cls):
    term = cls()
    assert pickle.loads(pickle.dumps(term)).settings == term.settings


@every_term
def test_is_part_of_a_preset_or_documented(cls):
    """In conf/objective, or in a Markdown file that users read."""
    files = [
        *(ROOT / "conf" / "objective").glob("*.yaml"),
        *(ROOT / "experiments" / "objectives").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
    ]
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert any(re.search(rf"\b{cls.__name__}\b", text) for text in texts)


def test_an_unknown_need_is_refused_when_the_class_is_made():
    with pytest.raises(ValueError, match=r"Odd\.needs has 'gradients': choose among logits"):
        type("Odd", (Term,), {"needs": frozenset({"gradients"})})
    with pytest.raises(TypeError, match="not the string"):
        type("Odd", (Term,), {"needs": "logits"})


def test_needs_may_be_written_as_strings():
    term = type("Plain", (Term,), {"needs": {"logits", "attention"}})
    assert term.needs == frozenset({Need.LOGITS, Need.ATTENTION})
    assert all(isinstance(need, Need) for need in term.needs)


def test_a_term_without_forward_is_refused():
    with pytest.raises(TypeError, match="forward"):
        type("Odd", (Term,), {})()


LOGIT_TERMS = [cls for cls in TERMS if issubclass(cls, LogitTerm)]
# Classes of the four that student and teacher give the logit minus infinity, by example.
RULED_OUT = {
    "neither": ([], []),
    "both": ([0], [0]),
    "teacher": ([], [1]),
    "student": ([2], []),
    "each another": ([0], [3]),
    "all but one": ([0, 1, 2], [0, 1, 2]),
    "all": ([0, 1, 2, 3], [0, 1, 2, 3]),
}


@pytest.mark.parametrize("cls", LOGIT_TERMS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("student_classes", RULED_OUT.values(), ids=RULED_OUT)
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_a_class_that_is_ruled_out_makes_no_nan(cls, student_classes, temperature):
    """Logits of minus infinity give a finite loss and finite gradients, with any setting."""
    options = inspect.signature(cls).parameters
    for standardized in (False, True):
        settings = {"standardize": standardized} if "standardize" in options else {}
        if "temperature" in options:
            settings["temperature"] = temperature
        student, teacher = random_outputs(0), random_outputs(1)
        logits = [outputs.logits.detach().clone() for outputs in (student, teacher)]
        for values, classes in zip(logits, student_classes, strict=True):
            values[1:4, classes] = -math.inf
            values.requires_grad_()
        student.logits, teacher.logits = logits
        loss = bound(cls, **settings)(student, teacher, BATCH)
        assert torch.isfinite(loss), loss
        loss.backward()
        assert torch.isfinite(student.logits.grad).all()
        assert student.logits.grad[0].abs().sum() > 0  # examples without such a class are learned


@pytest.mark.parametrize("cls", LOGIT_TERMS, ids=lambda cls: cls.__name__)
def test_a_class_that_both_rule_out_adds_nothing(cls):
    """Equal models stay equal, and the loss is that of a class with a very low logit."""
    values = []
    for lowest in (-math.inf, -200.0):
        student, teacher = random_outputs(0), random_outputs(1)
        with torch.no_grad():
            student.logits[:, 0] = teacher.logits[:, 0] = lowest
        batch = {"labels": torch.tensor([1, 2, 3, 1, 2, 3])}
        values.append(bound(cls)(student, teacher, batch).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_adaptive_temperatures_are_finite_beside_a_class_that_is_ruled_out():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    without = logits.clone()
    without[:, 2] = -math.inf
    for schedule in (FLSW(), CWSM()):
        assert torch.isfinite(schedule(0.0, without, logits)).all()
        assert torch.isfinite(schedule(0.0, logits, without)).all()
