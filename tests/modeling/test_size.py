import pytest
import torch
from torch import nn

from distill.modeling.loading import weight_files
from distill.modeling.size import count_bytes, count_parameters, size_on_disk
from tests.factories import counted_operations, make_model


def analytic(layers, hidden, feed_forward, classes, tokens):
    """Matrix products of a BERT classifier, by hand (no biases, softmax or normalisation).

    A layer: query, key, value and output projections (4 h^2 a token), scores and their sum over
    values (2 t h a token), the feed-forward layer (2 h f a token). Then the pooler and the
    classifier, on one token.
    """
    per_token = 4 * hidden**2 + 2 * tokens * hidden + 2 * hidden * feed_forward
    return layers * tokens * per_token + hidden**2 + hidden * classes


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("tokens", [1, 7, 64])
@pytest.mark.parametrize("layers", [1, 4])
def test_multiply_accumulates_equal_the_analytic_count(layers, tokens, attention):
    model = make_model(layers=layers)
    model.set_attn_implementation(attention)
    assert counted_operations(model, tokens) == analytic(layers, 32, 64, 2, tokens)


@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert"])
def test_other_families_are_counted_too(family):
    """The body is BERT's; only the small head differs."""
    body = analytic(4, 32, 64, 2, 16) - 32**2 - 64
    head = counted_operations(make_model(family), 16) - body
    assert 0 < head <= 2 * 32**2 + 64


def test_counting_leaves_the_model_in_its_mode():
    model = make_model().train()
    counted_operations(model, 8)
    assert model.training


def test_parameters_with_and_without_embeddings():
    model = make_model(layers=2)
    by_hand = sum(p.numel() for p in model.parameters())
    tables = 32 * 32 + 64 * 32 + 2 * 32  # words, positions, types
    assert count_parameters(model) == (by_hand, by_hand - tables)


def test_tied_weights_count_once():
    table = nn.Embedding(10, 4)
    output = nn.Linear(4, 10, bias=False)
    output.weight = table.weight
    assert count_parameters(nn.ModuleList([table, output])) == (40, 0)


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_size_on_disk_is_that_of_the_files_in_their_own_type(tmp_path, shard):
    model = make_model(layers=2).half()
    model.save_pretrained(tmp_path, max_shard_size=shard)
    (tmp_path / "other.safetensors").write_bytes(b"not of this model")
    files = weight_files(str(tmp_path))
    assert len(files) == (1 if shard == "1GB" else len(list(tmp_path.glob("model-*"))))
    measured = size_on_disk(files, model.float())
    assert measured == sum(file.stat().st_size for file in tmp_path.glob("model*.safetensors"))
    assert 2 * count_parameters(model).total < measured < count_bytes(model)


def test_without_files_the_parameters_in_memory_count(tmp_path):
    model = nn.Linear(3, 5)
    assert weight_files(str(tmp_path)) == weight_files("no/such-model-here") == ()
    assert size_on_disk((), model) == count_bytes(model)


def test_bytes_follow_the_type():
    model = nn.Linear(3, 5)
    assert count_bytes(model) == 4 * 20
    assert count_bytes(model.to(torch.bfloat16)) == 2 * 20
