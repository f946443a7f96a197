"""Weights that do not fit a model are refused, whatever part of it they are."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertModel,
)

from distill.core.errors import UserError
from distill.modeling.pretrained_weights import load_pretrained
from distill.tasks.sequence_classification import SequenceClassification
from tests.factories import make_model


def edited(folder, change):
    """Save a classifier, its weights changed; return its folder."""
    make_model().save_pretrained(folder)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def configured(folder, **settings):
    """Save a classifier, its config.json changed; return its folder."""
    make_model().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def without(*parts):
    return lambda weights: {
        name: weight for name, weight in weights.items() if not any(p in name for p in parts)
    }


def renamed(old, new):
    return lambda weights: {name.replace(old, new): weight for name, weight in weights.items()}


def prefixed(prefix):
    return lambda weights: {prefix + name: weight for name, weight in weights.items()}


def poisoned(name, value):
    def change(weights):
        weights[name].view(-1)[0] = value
        return weights

    return change


BOTH = pytest.mark.parametrize("new_head", [True, False])


@BOTH
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (prefixed("model."), "prefix model."),
        (prefixed("module."), "prefix module."),
        (prefixed("student."), "prefix student."),
        (without("layer.1."), "lacks bert.encoder.layer.1."),
        (without("word_embeddings"), "lacks bert.embeddings.word_embeddings.weight"),
        (without("query.bias"), "and 1 more"),
        (renamed("query", "q"), "lacks bert.encoder.layer.0.attention.self.query"),
        (lambda w: w | {"bert.encoder.extra": torch.ones(1)}, "bert.encoder.extra"),
        (poisoned("bert.pooler.dense.weight", float("nan")), "not finite numbers"),
        (poisoned("bert.encoder.layer.1.output.dense.bias", float("inf")), "output.dense.bias"),
    ],
)
def test_an_encoder_that_does_not_fit(tmp_path, change, says, new_head):
    folder = edited(tmp_path, change)
    with pytest.raises(UserError) as raised:
        load_pretrained(AutoModelForSequenceClassification, folder, new_head=new_head)
    assert says in str(raised.value)


@BOTH
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_size": 64}, "has the shape"),
        ({"vocab_size": 40}, "word_embeddings.weight has the shape [32, 32]"),
        ({"num_hidden_layers": 2}, "no place for"),
        ({"num_hidden_layers": 6}, "lacks bert.encoder.layer.4"),
        ({"intermediate_size": 32}, "intermediate.dense"),
    ],
)
def test_a_config_of_another_shape(tmp_path, settings, says, new_head):
    folder = configured(tmp_path, **settings)
    with pytest.raises(UserError) as raised:
        load_pretrained(AutoModelForSequenceClassification, folder, new_head=new_head)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("classifier"), "lacks classifier.bias, classifier.weight"),
        (without("classifier.bias"), "lacks classifier.bias"),
        (without("pooler"), "lacks bert.pooler.dense"),
        (renamed("classifier.", "head."), "lacks classifier.bias"),
        (lambda w: w | {"classifier2.weight": torch.ones(2)}, "classifier2.weight"),
    ],
)
def test_only_a_head_that_is_to_be_trained_may_be_new(tmp_path, change, says):
    folder = edited(tmp_path, change)
    load_pretrained(AutoModelForSequenceClassification, folder, new_head=True)
    with pytest.raises(UserError) as raised:
        load_pretrained(AutoModelForSequenceClassification, folder, new_head=False)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    "add",
    ["bert.embeddings.position_ids", "cls.predictions.bias", "cls.seq_relationship.weight"],
)
def test_what_older_files_and_pretraining_leave_is_harmless(tmp_path, add):
    folder = edited(tmp_path, lambda weights: weights | {add: torch.ones(1)})
    loaded = load_pretrained(AutoModelForSequenceClassification, folder, new_head=False)
    assert torch.equal(loaded.classifier.weight, make_model().classifier.weight)


@pytest.mark.parametrize("model_class", [AutoModelForTokenClassification, AutoModelForMaskedLM])
def test_a_pooler_that_a_head_does_not_read_is_harmless(tmp_path, model_class):
    make_model().save_pretrained(tmp_path)
    load_pretrained(model_class, tmp_path, new_head=True)


@pytest.mark.parametrize("with_pooler", [True, False])
def test_an_encoder_without_a_head(tmp_path, with_pooler):
    BertModel(make_model().config, add_pooling_layer=with_pooler).save_pretrained(tmp_path)
    load_pretrained(AutoModelForSequenceClassification, tmp_path, new_head=True)
    with pytest.raises(UserError, match="lacks"):
        load_pretrained(AutoModelForSequenceClassification, tmp_path, new_head=False)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("model.safetensors", b"", "cannot be loaded"),
        ("model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all}", "cannot"),
        ("model.safetensors", None, "cannot be loaded"),
        ("pytorch_model.bin", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("pytorch_model.bin", b"garbage", "cannot be loaded"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, file, content, says):
    make_model().save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(UserError) as raised:
        load_pretrained(AutoModelForSequenceClassification, tmp_path, new_head=True)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("classes", "keeps"),
    [
        (("negative", "positive"), True),
        (("positive", "negative"), True),  # by name, in the data's order
        (("spam", "ham"), False),
        (("LABEL_0", "LABEL_1"), False),
    ],
)
def test_a_head_of_the_same_shape_is_kept_for_the_same_classes_only(tmp_path, classes, keeps):
    model = make_model(labels=classes)
    model.save_pretrained(tmp_path)
    loaded, new_head = SequenceClassification().head.start(tmp_path, ["negative", "positive"])
    assert new_head is not keeps
    expected = model.classifier.weight
    if classes == ("positive", "negative"):
        expected = expected.flip(0)
    assert torch.equal(loaded.classifier.weight, expected) is keeps
    assert loaded.config.id2label == {0: "negative", 1: "positive"}
