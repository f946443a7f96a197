import pytest
import torch

from distill.core.errors import UserError
from distill.student.from_layers import LayersFactory
from distill.student.from_shape import ShapeFactory
from distill.student.pretrained import PretrainedFactory
from distill.teacher.prepare import Teacher
from tests.factories import make_model, make_tokenizer, student_context

NAMES = ["negative", "positive"]


def teacher_of(model, tokenizer):
    return Teacher("teacher", model, tokenizer, "hash", 0.0, True)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_copies_exactly_the_chosen_layers_and_all_the_rest(family, tokenizer, tmp_path):
    teacher = make_model(family, layers=6)
    recipe = LayersFactory(name="s", layers=[4, 1])
    student = recipe.build(student_context(teacher_of(teacher, tokenizer), tmp_path)).model
    assert student.config.num_hidden_layers == 2
    assert teacher.config.num_hidden_layers == 6
    theirs, ours = teacher.state_dict(), student.state_dict()
    copied = 0
    for key, value in ours.items():
        source = key.replace(".layer.0.", ".layer.FOUR.").replace(".layer.1.", ".layer.1.")
        source = source.replace(".layer.FOUR.", ".layer.4.")
        assert torch.equal(value, theirs[source]), key
        copied += ".layer." in key
    assert copied > 0
    assert set(student.config.id2label.values()) == set(NAMES)


def test_student_shares_no_memory_with_the_teacher(tokenizer, tmp_path):
    teacher = make_model()
    recipe = LayersFactory(name="s", layers="half")
    student = recipe.build(student_context(teacher_of(teacher, tokenizer), tmp_path)).model
    with torch.no_grad():
        student.classifier.weight.zero_()
    assert teacher.classifier.weight.abs().sum() > 0


def test_all_layers_give_the_teacher_itself(tokenizer, tmp_path):
    teacher = make_model().eval()
    recipe = LayersFactory(name="s", layers=[0, 1, 2, 3])
    student = recipe.build(student_context(teacher_of(teacher, tokenizer), tmp_path)).model.eval()
    ids = torch.tensor([[2, 6, 9, 12, 3]])
    assert torch.equal(student(input_ids=ids).logits, teacher(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        ("half", 6, [0, 2, 4]), ("third", 6, [0, 3]), ("single", 6, [0]),
        ("lower", 6, [0, 1, 2]), ("lower", 5, [0, 1, 2]), ("lower", 1, [0]),
        ("half", 12, [0, 2, 4, 6, 8, 10]), ("third", 12, [0, 3, 6, 9]), ("half", 1, [0]),
    ],
)  # fmt: skip
def test_presets(layers, depth, expected):
    assert LayersFactory(name="s", layers=layers).layer_indices(depth) == expected


@pytest.mark.parametrize("layers", [[6], [-1], [], [0, 0], "most"])
def test_refuses_layers_that_are_not_there(layers):
    with pytest.raises(UserError, match=r"student\.layers"):
        LayersFactory(name="s", layers=layers).layer_indices(6)


def test_shape_reads_with_the_teachers_tokenizer(tokenizer, tmp_path):
    recipe = ShapeFactory(name="tiny", hidden_layers=2, hidden_size=128)
    student = recipe.build(student_context(teacher_of(make_model(), tokenizer), tmp_path))
    assert student.processor is tokenizer
    config = student.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 128, 2)
    assert config.vocab_size == len(tokenizer)
    assert config.id2label == {0: "negative", 1: "positive"}


def test_published_shapes_are_those_of_the_hub():
    assert ShapeFactory(name="tiny", hidden_layers=2, hidden_size=128).published_id == (
        "google/bert_uncased_L-2_H-128_A-2"
    )
    assert ShapeFactory(name="medium", hidden_layers=8, hidden_size=512).published_id == (
        "google/bert_uncased_L-8_H-512_A-8"
    )


def test_published_weights_without_the_hub_are_refused_early():
    recipe = ShapeFactory(name="tiny", hidden_layers=2, hidden_size=128, weights="published")
    with pytest.raises(UserError, match=r"bert_uncased_L-2_H-128_A-2 cannot"):
        recipe.check(None)


def test_pretrained_keeps_its_own_tokenizer(tokenizer, tmp_path):
    other = make_tokenizer(["quite", "other", "words"])
    make_model(vocab_size=32).save_pretrained(tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    recipe = PretrainedFactory(path=str(tmp_path / "other"))
    student = recipe.build(student_context(teacher_of(make_model(), tokenizer), tmp_path))
    assert student.name == "other"
    assert student.processor.get_vocab() == other.get_vocab()
    assert student.model.dtype == torch.float32
