"""What every way to make a student promises, of every one that there is."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate

import distill.student
from distill.config.resolvers import conf_dir
from distill.core.errors import UserError
from distill.modeling.forward import forward_at_positions
from distill.modeling.loading import weights_hash
from distill.modeling.shape import model_shape
from distill.objectives.pair import ModelPair
from distill.student.base import Student, StudentArchitecture, StudentFactory
from distill.student.bilstm import BiLSTMFactory
from distill.student.cnn import CNNFactory
from distill.student.decoder import OwnShapeFactory
from distill.student.from_layers import LayersFactory
from distill.student.from_shape import ShapeFactory
from distill.student.network import NetworkFactory
from distill.student.ngram import NgramFactory
from distill.student.pretrained import PretrainedFactory
from distill.student.static import StaticFactory
from distill.tasks.token_classification import TokenClassification
from distill.teacher.prepare import Teacher
from tests.factories import (
    BAD,
    FILLER,
    GOOD,
    composed,
    make_model,
    make_tokenizer,
    prepared,
    sentences,
    student_context,
)
from tests.subclasses import concrete_subclasses

FACTORIES = concrete_subclasses(StudentFactory, distill.student)
NAMES = ["negative", "positive"]
TEXT = "the film was good"
LETTERS = "abcdefghijklmnopqrstuvwxyz"

CASES: dict[str, Callable[[Path], StudentFactory]] = {
    "half": lambda _: LayersFactory(name="half", layers="half"),
    "layers": lambda _: LayersFactory(name="layers", layers=[3, 0, 1]),
    "narrow": lambda _: LayersFactory(
        name="narrow", layers="all", hidden_size=0.5, heads=0.5, intermediate_size=0.5
    ),
    "uneven": lambda _: LayersFactory(name="uneven", layers="half", hidden_size=24, heads=1),
    "low rank": lambda _: LayersFactory(name="low rank", layers="half", embedding_size=8),
    "layers, corpus": lambda _: LayersFactory(name="c", layers="single", vocabulary="corpus"),
    "shape": lambda _: ShapeFactory(name="shape", hidden_layers=2, hidden_size=128),
    "own shape": lambda _: OwnShapeFactory(name="own", hidden_layers=1, hidden_size=16, heads=2),
    "pretrained": lambda folder: PretrainedFactory(path=str(other_model(folder))),
    "bilstm": lambda _: BiLSTMFactory(name="bilstm", hidden_size=24, hidden_layers=2),
    "bilstm, corpus": lambda _: BiLSTMFactory(name="bilstm", vocabulary=3),
    "cnn": lambda _: CNNFactory(name="cnn", widths=[2, 3], channels=6),
    "cnn, corpus": lambda _: CNNFactory(name="cnn", embedding_size=8, vocabulary="corpus"),
    "ngram": lambda _: NgramFactory(name="ngram", hidden_size=8, buckets=50),
    "ngram, corpus": lambda _: NgramFactory(
        name="ngram", orders=[], character_buckets=0, vocabulary="corpus"
    ),
    "static": lambda _: StaticFactory(name="static"),
    "static, corpus": lambda _: StaticFactory(name="static", hidden_size=8, vocabulary="corpus"),
}
every_case = pytest.mark.parametrize("name", CASES)


def other_model(folder: Path) -> Path:
    """A pretrained model of another depth with a tokenizer of its own."""
    path = folder / "other"
    make_model(layers=3, vocab_size=40).base_model.save_pretrained(path)
    make_tokenizer([*TEXT.split(), "other", "words"]).save_pretrained(path)
    return path


@pytest.fixture
def tokenizer():
    """Characters too: words can be left out, and are then read in pieces."""
    words = [*FILLER, *GOOD, *BAD, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return make_tokenizer(list(dict.fromkeys(words)))


@pytest.fixture
def teacher(tokenizer) -> Teacher:
    model = make_model(vocab_size=len(tokenizer)).eval()
    return Teacher("teacher", model, tokenizer, "hash", 0.0, True)


@pytest.fixture
def context(teacher, tmp_path):
    rows = [row | {"label": index % 2} for index, row in enumerate(sentences(6, 1))]
    return student_context(teacher, tmp_path / "cache", prepared(rows))


def build(factory: StudentFactory, context) -> Student:
    torch.manual_seed(0)
    return factory.build(context)


def test_every_factory_has_a_case(tmp_path):
    of_images = {NetworkFactory}  # tests/student/test_network.py
    assert {type(make(tmp_path)) for make in CASES.values()} == set(FACTORIES) - of_images


@every_case
def test_check_and_architecture_need_the_configuration_alone(name, teacher, tmp_path):
    factory, config = CASES[name](tmp_path), teacher.model.config
    before, settings = copy.deepcopy(config.to_dict()), copy.deepcopy(vars(factory))
    assert factory.check(config) is None
    architecture = factory.architecture(config)
    assert isinstance(architecture, StudentArchitecture)
    assert architecture == factory.architecture(config)
    assert config.to_dict() == before and vars(factory) == settings
    assert not (architecture.trims_vocabulary and architecture.processor_path)


@every_case
def test_the_architecture_is_that_of_the_student(name, teacher, context, tmp_path):
    factory = CASES[name](tmp_path)
    said = factory.architecture(teacher.model.config)
    student = build(factory, context)
    found = model_shape(student.model.config)
    assert (said.shape.layers, said.shape.width, said.shape.heads) == (
        found.layers, found.width, found.heads,
    )  # fmt: skip
    assert said.shape.attention_width == found.attention_width
    with torch.no_grad():
        states = student.model.eval()(
            **student.processor(TEXT, return_tensors="pt"), output_hidden_states=True
        ).hidden_states
    if found.layers:  # a mean of embeddings has no hidden states
        assert len(states) == found.layers + 1
        assert states[-1].shape[-1] == found.width
    # Terms are validated against what was said: binding to it is binding to the student.
    pair = ModelPair(context.task, 2, said.shape, {None: model_shape(teacher.model.config)})
    assert pair.student == said.shape


@every_case
def test_the_processor_is_the_one_that_was_announced(name, teacher, context, tmp_path):
    factory = CASES[name](tmp_path)
    said = factory.architecture(teacher.model.config)
    student = build(factory, context)
    preprocessor = context.task.preprocessor
    same = preprocessor.same_inputs(student.processor, teacher.processor)
    assert same == (not said.trims_vocabulary and said.processor_path is None)
    if said.processor_path is not None:
        own = preprocessor.load_processor(said.processor_path, "the student")
        assert preprocessor.same_inputs(student.processor, own)
    if said.trims_vocabulary:
        assert len(student.processor) < len(teacher.processor)
    rows = student.model.get_input_embeddings().weight.shape[0]
    assert len(student.processor) <= rows == student.model.config.vocab_size
    assert student.model.config.pad_token_id == student.processor.pad_token_id


@every_case
def test_the_student_is_named_and_its_origin_told(name, context, tmp_path):
    factory = CASES[name](tmp_path)
    student = build(factory, context)
    assert isinstance(student, Student)
    assert student.name == factory.name and student.name.strip()
    assert student.origin.strip() == student.origin != ""
    assert "\n" not in student.origin
    assert [student.model.config.id2label[index] for index in range(2)] == NAMES
    assert {parameter.dtype for parameter in student.model.parameters()} == {torch.float32}


@every_case
def test_the_seed_decides_and_the_teacher_stays_as_it_is(name, teacher, context, tmp_path):
    factory, before = CASES[name](tmp_path), weights_hash(teacher.model)
    first, second = (build(factory, context) for _ in range(2))
    assert weights_hash(first.model) == weights_hash(second.model)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.zero_()
    assert weights_hash(teacher.model) == before
    assert weights_hash(first.model) != weights_hash(second.model)


@every_case
def test_the_student_is_saved_and_loaded(name, context, tmp_path):
    student = build(CASES[name](tmp_path), context)
    student.model.save_pretrained(tmp_path / "saved")
    student.processor.save_pretrained(tmp_path / "saved")
    loaded = context.task.head.load_trained(tmp_path / "saved", NAMES).eval()
    processor = context.task.preprocessor.load_processor(str(tmp_path / "saved"), "the student")
    with torch.no_grad():
        expected = student.model.eval()(**student.processor(TEXT, return_tensors="pt")).logits
        logits = loaded(**processor(TEXT, return_tensors="pt")).logits
    assert type(loaded) is type(student.model)
    weights = loaded.state_dict()
    for key, weight in student.model.state_dict().items():
        assert torch.equal(weights[key], weight)
    torch.testing.assert_close(logits, expected)


@every_case
def test_whether_there_are_logits_of_tokens(name, tokenizer, tmp_path):
    task = TokenClassification()
    model = task.head.build(make_model(vocab_size=len(tokenizer)).config)
    teacher = Teacher("teacher", model.eval(), tokenizer, "hash", 0.0, True)
    rows = [row | {"label": index % 2} for index, row in enumerate(sentences(6, 1))]
    context = student_context(teacher, tmp_path / "cache", prepared(rows), task)
    factory = CASES[name](tmp_path)
    supported = factory.supported_heads
    if supported is not None and "ForTokenClassification" not in supported:
        with pytest.raises(ValueError, match="Unrecognized configuration class"):
            build(factory, context)
        return
    student = build(factory, context)
    inputs = dict(student.processor(TEXT, return_tensors="pt"))
    with torch.no_grad():
        logits = forward_at_positions(
            student.model.eval(), inputs | {"positions": torch.tensor([[1, 2, 4]])}
        ).logits
    assert logits.shape == (3, 2)


@pytest.mark.parametrize("kind", FACTORIES, ids=lambda kind: kind.__name__)
def test_every_option_is_documented(kind):
    documented = f"{kind.__doc__}"
    for option in dataclasses.fields(kind):
        assert f"        {option.name}: " in documented or f"    {option.name}: " in documented


def presets() -> list[str]:
    return sorted(path.stem for path in (Path(conf_dir()) / "student").glob("*.yaml"))


@pytest.mark.parametrize("preset", presets())
def test_every_preset_makes_a_factory(preset, tmp_path):
    own = ["student.path=someone/model"] if preset == "hub" else []
    factory = instantiate(composed(f"student={preset}", *own).student, _convert_="all")
    assert type(factory) in FACTORIES
    assert factory.name


def test_every_factory_has_a_preset():
    kinds = set()
    for preset in presets():
        own = ["student.path=someone/model"] if preset == "hub" else []
        kinds.add(get_class(composed(f"student={preset}", *own).student._target_))
    assert kinds == set(FACTORIES)


def test_a_factory_without_a_method_cannot_be_made():
    for method in sorted(StudentFactory.__abstractmethods__):
        others = dict.fromkeys(StudentFactory.__abstractmethods__ - {method})
        with pytest.raises(TypeError, match=method):
            type("Incomplete", (StudentFactory,), others)()


def test_what_cannot_be_made_is_refused_by_check(teacher, tmp_path):
    for factory in (
        LayersFactory(name="s", layers=[0, 4]),
        LayersFactory(name="s", layers="half", hidden_size=33),
        LayersFactory(name="s", layers="half", embedding_size=64),
        PretrainedFactory(path=str(tmp_path / "nowhere")),
        ShapeFactory(name="s", hidden_layers=2, hidden_size=128, weights="published"),
        BiLSTMFactory(name="s", embedding_size=64),
        StaticFactory(name="s", hidden_size=64),
    ):
        with pytest.raises(UserError, match=r"student\.|published"):
            factory.check(teacher.model.config)
