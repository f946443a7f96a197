"""Terms in a training step: what they ask for, what they refuse, what they train."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from distill.core.errors import UserError
from distill.data.collate import PaddingCollator
from distill.data.dataset import DistillationDataset
from distill.modeling.features import ModelOutputs
from distill.modeling.shape import ModelShape, model_shape
from distill.objectives.objective import Objective, Recipe, Stage, training_stages
from distill.objectives.pair import ModelPair
from distill.objectives.schedules import FLSW, Linear, Step
from distill.objectives.terms.attention import AttentionMaps, AttentionRelations, AttentionScores
from distill.objectives.terms.decoupled_kd import DecoupledKD
from distill.objectives.terms.dist import DIST
from distill.objectives.terms.divergences import (
    JensenShannon,
    ReverseKL,
    SkewedKL,
    TotalVariation,
)
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.hidden_states import HiddenStates
from distill.objectives.terms.layer_map import layer_pairs
from distill.objectives.terms.logits_mse import LogitsMSE
from distill.objectives.terms.relations import RKDAngle, RKDDistance, SimilarityPreserving
from distill.objectives.terms.soft_targets import HardTeacherLabels, SoftCrossEntropy, SoftTargets
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.regression import Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import encoded, make_model

TASK = SequenceClassification()
LABELS = ("negative", "neutral", "positive")


def pair_of(student, teacher, classes=3, same=True):
    shapes = [model_shape(model.config) for model in (student, teacher)]
    return ModelPair(TASK, classes, shapes[0], {None: shapes[1]}, {None: same})


ON_LAYERS = {
    "hidden": lambda: HiddenStates(1.0, "mse", embeddings=True),
    "cosine": lambda: HiddenStates(1.0, "cosine", [[-1, -1]]),
    "first": lambda: HiddenStates(1.0, "normalized_mse", but_last=True, tokens="first"),
    "scores": lambda: AttentionScores(1.0),
    "maps": lambda: AttentionMaps(1.0),
    "values": lambda: AttentionRelations(1.0, ["values"], "own"),
    "relations": lambda: AttentionRelations(1.0),
    "distances": lambda: RKDDistance(1.0, "mean"),
    "angles": lambda: RKDAngle(1.0),
    "similarities": lambda: SimilarityPreserving(1.0),
}
ON_LOGITS = {
    "soft": SoftTargets, "reverse": ReverseKL, "tv": TotalVariation, "ce": SoftCrossEntropy,
    "js": JensenShannon, "skewed": SkewedKL, "skewed_reverse": lambda: SkewedKL(reverse=True),
    "mse": LogitsMSE, "hard": HardTeacherLabels, "dkd": DecoupledKD, "dist": DIST,
    "rkd": lambda: RKDDistance(1.0, "logits"),
}  # fmt: skip


@pytest.fixture
def setting(tokenizer):
    rows = encoded(tokenizer, 16)
    collate = PaddingCollator(TASK.preprocessor.fields(tokenizer))
    teacher = make_model(labels=LABELS, layers=4).eval()
    student = make_model(labels=LABELS, layers=2)
    return DistillationDataset(rows, collate, rows, collate), student, teacher


def counted(model):
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def module_of(student, teacher, **terms):
    objective = Objective("any", **terms).bind(pair_of(student, teacher))
    module = DistillationModule(student, objective, TASK, AdamW(learning_rate=1e-3), teacher)
    module.log = lambda *_, **__: None
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    module.lr_schedulers = lambda: schedule
    return module


@pytest.mark.parametrize("name", [*ON_LAYERS, *ON_LOGITS])
def test_one_teacher_pass_and_one_student_pass_a_step(name, setting):
    batches, student, teacher = setting
    term = (ON_LAYERS | ON_LOGITS)[name]()
    module = module_of(student.train(), teacher, term=term, labels=HardLabels(1.0))
    passes = counted(student), counted(teacher)
    loss = module.training_step(batches[list(range(8))], 0)
    loss.backward()
    assert [len(calls) for calls in passes] == [1, 1]
    assert torch.isfinite(loss)
    assert sum(p.grad.abs().sum() for p in student.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", [*ON_LOGITS, "similarities"])
def test_a_batch_without_labeled_positions_teaches_nothing(name):
    """Sentences of words that the tokenizer leaves nothing of: a mean over them is none."""
    makers = ON_LOGITS | {"similarities": lambda: SimilarityPreserving(1.0, "logits")}
    term = makers[name]()
    term.bind(ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "objective.term")
    head = torch.nn.Linear(4, 3)
    student, teacher = ModelOutputs(head(torch.zeros(0, 4))), ModelOutputs(torch.zeros(0, 3))
    loss = term(student, teacher, {"labels": torch.zeros(0, dtype=torch.int64)})
    loss.backward()
    assert loss.item() == 0.0
    assert not head.weight.grad.any()


@pytest.mark.parametrize("name", [*ON_LAYERS, *ON_LOGITS])
def test_a_term_of_weight_0_costs_nothing(name, setting):
    batches, student, teacher = setting
    term = (ON_LAYERS | ON_LOGITS)[name]()
    term.weight = 0.0
    module = module_of(student, teacher, term=term, labels=HardLabels(1.0))
    passes = counted(teacher)
    module.training_step(batches[list(range(8))], 0)
    assert passes == []
    assert not list(module.objective.parameters())


def test_a_scheduled_term_costs_nothing_while_its_weight_is_0(setting):
    batches, student, teacher = setting
    soft = SoftTargets(Step([0.0, 1.0], [0.5]))
    module = module_of(student, teacher, soft=soft, labels=HardLabels(1.0))
    passes = counted(teacher)
    module.training_step(batches[list(range(8))], 0)
    assert passes == []
    batch = batches[list(range(8))]
    outputs = ModelOutputs(torch.zeros(8, 3)), ModelOutputs(torch.ones(8, 3))
    assert set(module.objective(*outputs, batch, 0.4)) == {"loss", "labels"}
    assert set(module.objective(*outputs, batch, 0.5)) == {"loss", "soft", "labels"}


@pytest.mark.parametrize("name", ON_LAYERS)
def test_the_same_model_costs_nothing(name, setting):
    batches, _, teacher = setting
    module = module_of(teacher, teacher, term=ON_LAYERS[name](), labels=HardLabels(1e-9))
    batch = batches[[0, 5, 9]]
    outputs = module.teacher_outputs(batch)
    assert module.objective(outputs, outputs, batch)["term"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in ON_LAYERS if name not in ("angles", "distances", "similarities")]
)
def test_padding_and_other_examples_change_nothing(name, setting):
    """A short example costs the same alone as beside a long one."""
    batches, student, teacher = setting
    module = module_of(student.eval(), teacher, term=ON_LAYERS[name](), labels=HardLabels(1.0))
    lengths = batches.student["length"]
    short, long = lengths.index(min(lengths)), lengths.index(max(lengths))

    def cost(indices):
        from distill.modeling.features import forward_with_features

        batch = batches[indices]
        outputs = forward_with_features(student, batch["student"], module.objective.needs)
        return module.objective(outputs, module.teacher_outputs(batch), batch)["term"].item()

    assert cost([short, long]) == pytest.approx((cost([short]) + cost([long])) / 2, rel=1e-3)


def test_projections_are_trained_clipped_and_saved_but_are_no_part_of_the_student(setting):
    batches, _, teacher = setting
    student = make_model(labels=LABELS, layers=2, hidden_size=16, intermediate_size=32)
    module = module_of(student, teacher, hidden=HiddenStates(1.0), labels=HardLabels(1.0))
    projections = [name for name, _ in module.named_parameters() if "projections" in name]
    assert len(projections) == 2
    assert set(projections) <= set(module.state_dict())
    assert not any("projections" in name for name in student.state_dict())
    module.configure_model()
    optimizer, _ = AdamW(learning_rate=1e-3).build(module._groups, 10)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in module.parameters()}
    module.training_step(batches[list(range(8))], 0).backward()
    module._trainer = SimpleNamespace(strategy=SimpleNamespace(model=module))
    module.configure_gradient_clipping(optimizer, 1e-3)
    norm = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "expected"),
    [
        ("uniform", 3, 12, [(0, 3), (1, 7), (2, 11)]),
        ("uniform", 4, 6, [(0, 1), (1, 2), (2, 4), (3, 5)]),
        ("first", 2, 6, [(0, 0), (1, 1)]),
        ("last", 2, 6, [(0, 4), (1, 5)]),
        ([[0, 2], [-1, -1]], 2, 6, [(0, 2), (1, 5)]),
    ],
)
def test_layer_maps(layers, student, teacher, expected):
    assert layer_pairs(layers, student, teacher, "layers") == expected


def test_pkd_leaves_out_the_last_layer():
    assert layer_pairs("uniform", 6, 12, "layers", but_last=True) == [
        (0, 1), (1, 3), (2, 5), (3, 7), (4, 9)
    ]  # fmt: skip


SHAPE = ModelShape(2, 32, 2)


@pytest.mark.parametrize(
    ("term", "pair", "says"),
    [
        (DecoupledKD(), ModelPair(TASK, 2), "3 classes or more"),
        (DIST(), ModelPair(TASK, 2), "3 classes or more"),
        (SoftTargets(standardize=True), ModelPair(TASK, 2), "three classes"),
        (SoftTargets(temperature=0.0), ModelPair(TASK, 3), "above 0"),
        (SoftTargets(temperature=Linear(2, -1)), ModelPair(TASK, 3), "above 0"),
        (DIST(temperature=FLSW()), ModelPair(TASK, 3), "one temperature"),
        (JensenShannon(beta=1.0), ModelPair(TASK, 3), "between 0 and 1"),
        (SkewedKL(skew=1.0), ModelPair(TASK, 3), "below 1"),
        (DecoupledKD(target_weight=-1), ModelPair(TASK, 3), "0 or above"),
        (
            AttentionScores(),
            ModelPair(TASK, 3, SHAPE, {None: ModelShape(4, 32, 4)}),
            "head by head",
        ),
        (
            AttentionScores(),
            ModelPair(TASK, 3, ModelShape(2, 32, 0), {None: SHAPE}),
            "the student has none",
        ),
        (AttentionRelations(heads=5), ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "does not divide"),
        (
            AttentionRelations(of=["logits"]),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}),
            "choose among",
        ),
        (
            HiddenStates(),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}, {None: False}),
            "tokenize differently",
        ),
        (HiddenStates(layers=[[0, 9]]), ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "layers 0 to 1"),
        (HiddenStates(layers="middle"), ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "choose uniform"),
        (HiddenStates(measure="l1"), ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "choose mse"),
        (HiddenStates(), ModelPair(TASK, 3, ModelShape(5, 32, 2), {None: SHAPE}), "name the pairs"),
        (
            HiddenStates(but_last=True),
            ModelPair(TASK, 3, ModelShape(1, 32, 2), {None: SHAPE}),
            "one layer",
        ),
        (HiddenStates(teacher="big"), ModelPair(TASK, 3, SHAPE, {None: SHAPE}), "no such teacher"),
        (SoftTargets(teacher="big"), ModelPair(TASK, 3, SHAPE, {"a": SHAPE}), "there are a"),
        (
            RKDDistance(1.0, "logits", "big"),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}),
            "no such",
        ),
        (RKDDistance(), ModelPair(TASK, 3, ModelShape(0, 32, 0), {None: SHAPE}), "use mean"),
        (
            AttentionRelations(of=["keys", "keys"]),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}),
            "each once",
        ),
        (DecoupledKD(1.0, 1.0, 0, 0), ModelPair(TASK, 3), "leaves nothing"),
        (DIST(1.0, 1.0, 0, 0), ModelPair(TASK, 3), "leaves nothing"),
        (
            HiddenStates(layers=[[0, 0]], but_last=True),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}),
            "but_last=false",
        ),
        (HiddenStates(), ModelPair(TASK, 3, SHAPE, {"a": SHAPE, "b": SHAPE}), "name the teacher"),
        (
            RKDDistance(vector="last"),
            ModelPair(TASK, 3, SHAPE, {None: SHAPE}),
            "choose first",
        ),
        (
            RKDDistance(vector="logits"),
            ModelPair(QuestionAnswering(), 2, SHAPE, {None: SHAPE}),
            "different numbers of positions",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(term, pair, says):
    with pytest.raises(UserError, match=says) as refusal:
        term.bind(pair, "objective.term")
    assert "\n" not in str(refusal.value)


def test_terms_that_need_no_equal_tokens_accept_other_tokenizers():
    pair = ModelPair(TASK, 3, SHAPE, {None: SHAPE}, {None: False})
    for term in (HiddenStates(tokens="first"), RKDDistance(), SoftTargets()):
        term.bind(pair, "objective.term")


def test_an_adaptive_weight_is_refused():
    with pytest.raises(UserError, match="for temperatures"):
        Objective("any", soft=SoftTargets(weight=FLSW())).check()


def test_an_objective_that_teaches_no_head_is_refused():
    with pytest.raises(UserError, match="must teach the head"):
        training_stages(Objective("any", hidden=HiddenStates(1.0)))
    with pytest.raises(UserError, match="last stage must teach"):
        Recipe("any", only=Stage(hidden=HiddenStates(1.0)))


def test_dkd_takes_the_teachers_choice_where_there_is_no_label():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (ModelOutputs(torch.randn(2, 4, generator=draw)) for _ in range(2))
    term = DecoupledKD()
    choice = teacher.logits.argmax(-1)
    unlabeled = term(student, teacher, {"labels": torch.tensor([-100, -100])})
    assert torch.equal(unlabeled, term(student, teacher, {"labels": choice}))


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_other_tasks_have_their_own_form_or_are_refused(kind):
    task = SimpleNamespace(name="another", criterion=SimpleNamespace(distribution=kind))
    pair = ModelPair(task, 2)
    term = SoftTargets(temperature=3.0)
    term.bind(pair, "objective.term")
    student, teacher = (
        ModelOutputs(torch.tensor([[0.3, 2.0]])),
        ModelOutputs(torch.tensor([[1.0, -1.0]])),
    )
    from distill.objectives.functional import soft_targets as f

    expected = {
        "bernoulli": f.binary_soft_target_kl(student.logits, teacher.logits, 3.0),
        "gaussian": f.logits_mse(student.logits, teacher.logits),
    }[kind]
    assert torch.equal(term(student, teacher, {}), expected)
    with pytest.raises(UserError, match="no form"):
        ReverseKL().bind(pair, "objective.term")


@pytest.mark.parametrize(
    "kind",
    [SoftTargets, ReverseKL, TotalVariation, SoftCrossEntropy, JensenShannon, SkewedKL, LogitsMSE,
     HardTeacherLabels, DecoupledKD, DIST],
)  # fmt: skip
def test_any_of_them_may_standardize_the_logits(kind):
    """The student's shift and scale then make no difference."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 4, generator=draw) for _ in range(2))
    batch = {"labels": torch.tensor([0, 1, 2, 3, 0, 1])}
    term = kind(standardize=True)
    term.bind(ModelPair(TASK, 4), "objective.term")
    value = term(ModelOutputs(student), ModelOutputs(teacher), batch)
    moved = term(ModelOutputs(student * 3 + 5), ModelOutputs(teacher * 2 - 1), batch)
    assert moved.item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_that_of_torch_over_the_labeled_rows(smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 1, -100, 0])
    term = HardLabels(1.0, smoothing)
    term.bind(ModelPair(SequenceClassification(), 3), "objective.hard_labels")
    expected = F.cross_entropy(
        logits, labels, ignore_index=-100, label_smoothing=smoothing, reduction="sum"
    )
    loss = term(ModelOutputs(logits), None, {"labels": labels})
    assert loss.item() == pytest.approx(expected.item() / 6, rel=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "task", "message"),
    [
        (1.0, SequenceClassification(), "label_smoothing=1.0: it must be 0 or above and below 1"),
        (-0.1, SequenceClassification(), "label_smoothing=-0.1"),
        (0.1, Regression(), "label_smoothing has no form for regression"),
    ],
)
def test_label_smoothing_that_cannot_be_is_refused(smoothing, task, message):
    with pytest.raises(UserError, match=message):
        HardLabels(1.0, smoothing).bind(ModelPair(task, 3), "objective.hard_labels")


def test_soft_cross_entropy_of_numbers_is_the_squared_error_to_the_teacher():
    term = SoftCrossEntropy()
    term.bind(ModelPair(Regression(), 1), "objective.soft_labels")
    student, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    assert term(ModelOutputs(student), ModelOutputs(teacher), {}).item() == 2.0
