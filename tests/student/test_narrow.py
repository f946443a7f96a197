"""Narrower copies: nothing lost where nothing is cut, and what is cut is what a hand would cut."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from distill.core.errors import UserError
from distill.modeling import loading
from distill.modeling.compact import as_compact, low_rank
from distill.modeling.families import layer_stack
from distill.modeling.forward import output_logits
from distill.modeling.size import count_parameters
from distill.student import narrow
from distill.student.from_layers import LayersFactory
from distill.student.narrow import Widths
from distill.teacher.prepare import Teacher
from tests.factories import counted_operations, make_model, student_context

NAMES = ["negative", "positive"]
FAMILIES = ["bert", "roberta", "electra", "distilbert"]
IDS = torch.tensor([[2, 6, 9, 12, 3], [2, 7, 3, 14, 3]])


def lively(model):
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=1.0 * ("orm.weight" in name), std=0.3)
    return model.eval()


def built(model, tokenizer, tmp_path, **settings):
    recipe = LayersFactory(name="s", **{"layers": "all"} | settings)
    recipe.check(model.config)
    teacher = Teacher("teacher", model, tokenizer, "hash", 0.0, True)
    return recipe.build(student_context(teacher, tmp_path))


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("importance", ["magnitude", "first"])
def test_all_units_give_the_teacher_itself(family, importance, tokenizer, tmp_path):
    teacher = lively(make_model(family))
    student = built(
        teacher, tokenizer, tmp_path, hidden_size=1.0, heads=2, importance=importance
    ).model
    assert type(student) is type(teacher)
    assert torch.equal(logits(student), logits(teacher))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_units_are_those_sliced_by_hand(family, tokenizer, tmp_path):
    teacher = lively(make_model(family, layers=2))
    student = built(
        teacher, tokenizer, tmp_path, hidden_size=0.5, heads=1, intermediate_size=24,
        importance="first",
    ).model  # fmt: skip
    # Hidden and head units are 32 and 16, classes 2, the vocabulary 32: shapes say what to cut.
    theirs = teacher.state_dict()
    for key, ours in student.state_dict().items():
        cut = theirs[key][tuple(slice(size) for size in ours.shape)]
        assert torch.equal(ours, cut), key
        for axis, size in enumerate(theirs[key].shape):
            table = axis == 0 and "embeddings.weight" in key
            half = {64: 24, 32: 16}.get(size, size)
            assert ours.shape[axis] == (size if table else half), key
    assert type(student) is type(teacher)
    assert student.config.num_attention_heads == 1
    student.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(loaded), logits(student))


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_heads_and_units_that_say_nothing_go_first_and_are_not_missed(family, tokenizer, tmp_path):
    config = make_model(family, layers=3).config
    config.num_attention_heads = 4
    teacher = lively(type(make_model(family))(config))
    dead = {0: ([1], range(10, 30)), 1: ([0], range(0, 20)), 2: ([3], range(44, 64))}
    body = teacher.base_model.encoder.layer
    with torch.no_grad():
        for layer, (heads, units) in dead.items():
            for head in heads:
                body[layer].attention.output.dense.weight[:, head * 8 : head * 8 + 8] = 0
            body[layer].output.dense.weight[:, list(units)] = 0
    student = built(teacher, tokenizer, tmp_path, heads=3, intermediate_size=44).model
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-5, atol=1e-5)
    assert student.config.num_attention_heads == 3
    attention = student.base_model.encoder.layer[0].attention
    assert attention.self.query.weight.shape == (24, 32)
    assert attention.output.dense.weight.shape == (32, 24)
    per_layer = 4 * 32 * 8 + 3 * 8 + 2 * 20 * 32 + 20
    assert count_parameters(teacher).total - count_parameters(student).total == 3 * per_layer
    student.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(loaded), logits(student))
    assert layer_stack(student).path == layer_stack(teacher).path
    length = loading.check_max_length(teacher.config, 60)
    assert loading.check_max_length(student.config, length) == length
    with pytest.raises(UserError, match="positions"):
        loading.check_max_length(student.config, 65)
    # A second time, from the narrow one.
    again = built(student, tokenizer, tmp_path, layers=[0, 1], heads=2, intermediate_size=20).model
    assert again.base_model.encoder.layer[1].attention.self.value.weight.shape == (16, 32)
    assert torch.isfinite(logits(again)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_units_that_are_zero_everywhere_go_first(family, tokenizer, tmp_path):
    teacher = lively(make_model(family, layers=2))
    dead = [3, *range(8, 23)]
    axes = {key: narrow._kept_axes(key, teacher) for key in teacher.state_dict()}
    with torch.no_grad():
        for key, tensor in teacher.state_dict().items():
            for axis, kind in enumerate(axes[key]):
                if kind == "h":
                    tensor.index_fill_(axis, torch.tensor(dead), 0.0)
    student = built(teacher, tokenizer, tmp_path, hidden_size=16, heads=1).model
    kept = [index for index in range(32) if index not in dead]
    key = next(key for key in axes if key.endswith("word_embeddings.weight"))
    assert torch.equal(student.state_dict()[key], teacher.state_dict()[key][:, kept])


def test_a_head_matters_by_what_it_maps_to_and_not_by_its_weights_alone():
    weights = {
        "attention.self.value.weight": torch.cat([torch.full((2, 4), 9.0), torch.ones(2, 4)]),
        "attention.output.dense.weight": torch.cat(
            [torch.tensor([[9.0, -9.0]] * 4), torch.ones(4, 2)], dim=1
        ),
    }
    scores = narrow._head_scores(weights, 2)
    assert scores[0] == 0  # large weights that cancel
    assert scores[1] == pytest.approx(2 * 4)


def test_each_unit_of_a_layer_by_its_weights_in_and_out():
    weights = {"in": torch.tensor([[3.0, 4.0], [1.0, 0.0]]), "out": torch.tensor([[2.0, 10.0]])}
    assert narrow._unit_scores(weights, {"in": "fh", "out": "hf"}).tolist() == [10.0, 10.0]


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("bert", {"hidden_size": 33}, "hidden_size=33: choose a number from 1 to 32"),
        ("bert", {"heads": 0}, "heads=0"),
        ("bert", {"intermediate_size": 1.5}, "intermediate_size=1.5"),
        ("bert", {"hidden_size": 0.0}, "hidden_size=0.0"),
        ("bert", {"importance": "first"}, "changes nothing"),
        ("bert", {"importance": "random", "heads": 1}, "importance=random"),
        ("distilbert", {"heads": 1}, "heads=2 with hidden_size=32"),
        ("bert", {"embedding_size": 0}, "from 1 to 32"),
        ("bert", {"embedding_size": 17, "hidden_size": 0.5}, "from 1 to 16"),
        ("distilbert", {"embedding_size": 4}, "the teacher is distilbert"),
    ],
)
def test_refuses_what_the_teacher_cannot_give(family, settings, message):
    config = make_model(family).config
    with pytest.raises(UserError, match=message):
        LayersFactory(name="s", layers="all", **settings).check(config)


def test_refuses_other_families_and_an_electra_without_its_projection():
    from transformers import AlbertConfig

    config = AlbertConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=2)
    with pytest.raises(UserError, match="the teacher is albert"):
        LayersFactory(name="s", layers="all", hidden_size=0.5).check(config)
    config = make_model("electra").config
    config.embedding_size = 16
    with pytest.raises(UserError, match="no projection"):
        LayersFactory(name="s", layers="all", hidden_size=0.5).check(config)


def test_electra_with_embeddings_of_their_own_width(tokenizer, tmp_path):
    from transformers import ElectraConfig, ElectraForSequenceClassification

    teacher = lively(
        ElectraForSequenceClassification(
            ElectraConfig(
                vocab_size=32, embedding_size=12, hidden_size=32, num_hidden_layers=2,
                num_attention_heads=4, intermediate_size=64, max_position_embeddings=64,
            )
        )
    )  # fmt: skip
    student = built(teacher, tokenizer, tmp_path, hidden_size=0.5, heads=2, importance="first")
    weights = student.model.state_dict()
    assert weights["electra.embeddings.word_embeddings.weight"].shape == (32, 12)
    assert weights["electra.embeddings_project.weight"].shape == (16, 12)
    full = built(teacher, tokenizer, tmp_path, embedding_size=12).model
    torch.testing.assert_close(logits(full), logits(teacher), rtol=1e-4, atol=1e-5)


# --- factorized word tables --------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_full_rank_keeps_the_function(family, tokenizer, tmp_path):
    teacher = lively(make_model(family))
    student = built(teacher, tokenizer, tmp_path, embedding_size=32).model
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-4, atol=1e-4)
    student.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(loaded), logits(student))
    assert (tmp_path / "saved" / "compact.py").is_file()


def test_low_rank_is_the_nearest_one():
    torch.manual_seed(0)
    table = torch.randn(50, 8)
    one, other = low_rank(table, 3)
    values = torch.linalg.svdvals(table)
    assert (table - one @ other.T).norm() == pytest.approx(values[3:].norm().item(), rel=1e-5)


def test_a_factorized_table_has_fewer_parameters_and_costs_a_product(tokenizer, tmp_path):
    teacher = make_model()
    student = built(teacher, tokenizer, tmp_path, embedding_size=5).model
    saved = 32 * 32 - 32 * 5 - 5 * 32
    assert count_parameters(teacher).total - count_parameters(student).total == saved
    counts = [counted_operations(model, 7) for model in (teacher, student)]
    assert counts[1] - counts[0] == 7 * 5 * 32
    table = student.get_input_embeddings().weight
    assert table.shape == (32, 32)
    assert torch.linalg.matrix_rank(table) == 5
    with pytest.raises(UserError, match="factorized already"):
        LayersFactory(name="s", layers="all", embedding_size=4).check(student.config)
    smaller = built(student, tokenizer, tmp_path, layers="half", hidden_size=0.5, heads=0.5).model
    assert smaller.get_input_embeddings().weight.shape == (32, 16)


def test_compact_equals_its_family_where_the_shapes_agree():
    plain = lively(make_model())
    compact = as_compact(plain.config)
    compact.load_state_dict(plain.state_dict())
    assert torch.equal(logits(compact), logits(plain))


def test_widths_of_each_family():
    for family in FAMILIES:
        assert Widths.from_config(make_model(family).config) == Widths(32, 2, 64)


def test_all_through_the_command(command, small):
    code, _, err = command(
        *small, "student=half", "student.heads=1", "student.intermediate_size=0.5",
        "student.embedding_size=8", "data.max_length=24", "output_dir=run",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("run/report.json").read_text())
    teacher, student, control = report["models"]
    assert student["size"]["parameters"] == control["size"]["parameters"]
    assert student["size"]["multiply_accumulates"] < teacher["size"]["multiply_accumulates"] / 2
    card = Path("run/student/README.md").read_text()
    assert "1 of 2 heads and 32 of 64 feed-forward units" in card
    assert "trust_remote_code" in card
    code, _, err = command(*small, "student.importance=first", "output_dir=refused")
    assert code == 2
    assert "changes nothing" in err


HEADS = {
    "token_classification": AutoModelForTokenClassification,
    "question_answering": AutoModelForQuestionAnswering,
    "masked_lm": AutoModelForMaskedLM,
}


def said(model):
    with torch.no_grad():
        return output_logits(model.eval()(input_ids=IDS))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_other_heads_are_narrowed_and_load_again(family, head, tokenizer, tmp_path):
    teacher = lively(head.from_config(make_model(family, layers=2).config))
    whole = built(teacher, tokenizer, tmp_path, hidden_size=1.0, heads=2).model
    assert torch.equal(said(whole), said(teacher))
    uneven = {} if family == "distilbert" else {"heads": 1, "hidden_size": 24}
    student = built(teacher, tokenizer, tmp_path, **{"heads": 1, "hidden_size": 16} | uneven).model
    assert type(student).__name__.startswith("Compact") == bool(uneven)
    assert said(student).shape == said(teacher).shape
    student.save_pretrained(tmp_path / "saved")
    loaded = head.from_pretrained(tmp_path / "saved")
    assert type(loaded) is type(student)
    assert torch.equal(said(loaded), said(student))


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_word_table_of_low_rank_under_other_heads(family, tokenizer, tmp_path):
    config = make_model(family, layers=2).config
    teacher = lively(AutoModelForTokenClassification.from_config(config))
    student = built(teacher, tokenizer, tmp_path, embedding_size=32).model
    torch.testing.assert_close(said(student), said(teacher), rtol=1e-4, atol=1e-4)
    teacher = AutoModelForMaskedLM.from_config(config)
    with pytest.raises(UserError, match="embedding table as the output layer"):
        built(teacher, tokenizer, tmp_path, embedding_size=8)
