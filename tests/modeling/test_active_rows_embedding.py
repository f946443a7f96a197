"""Training the rows that occur is training the table."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from distill.data.dataset import DistillationDataset
from distill.modeling.active_rows_embedding import ActiveRowsEmbedding, train_active_rows
from tests.factories import collator, encoded, make_model

IDS = np.array([0, 2, 3, 5, 7, 11])


def table(model):
    return model.get_input_embeddings()


def steps(model, weight_decay, ids=IDS, count=6):
    """AdamW with clipping on texts of these ids; the gradients' norms on the way."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=weight_decay)
    draw, norms = torch.Generator().manual_seed(3), []
    for _ in range(count):
        texts = torch.from_numpy(ids)[torch.randint(1, len(ids), (4, 6), generator=draw)]
        torch.manual_seed(5)  # the same dropout
        loss = model(texts).logits.square().sum()
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.1)))
        optimizer.step()
    return norms


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_the_same_training_as_of_the_whole_table(family):
    whole, part = make_model(family, layers=1), make_model(family, layers=1)
    before = table(whole).weight.detach().clone()
    expected = steps(whole, 0.0)
    with train_active_rows(part, IDS):
        assert table(part).weight.shape == (len(IDS), 32)
        assert steps(part, 0.0) == pytest.approx(expected, rel=1e-5)
    assert type(table(part)) is nn.Embedding
    for one, other in zip(whole.parameters(), part.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)
    others = np.setdiff1d(np.arange(32), IDS)
    assert torch.equal(table(part).weight[others], before[others])
    assert not torch.equal(table(part).weight[IDS[1:]], before[IDS[1:]])


def test_with_weight_decay_only_rows_that_never_occur_differ_and_by_that_alone():
    whole, part = make_model(layers=1), make_model(layers=1)
    before = table(whole).weight.detach().clone()
    steps(whole, 0.05)
    with train_active_rows(part, IDS):
        steps(part, 0.05)
    torch.testing.assert_close(table(part).weight[IDS], table(whole).weight[IDS])
    others = np.setdiff1d(np.arange(32), IDS)
    shrunk = before[others] * (1 - 1e-2 * 0.05) ** 6
    torch.testing.assert_close(table(whole).weight[others], shrunk)


def test_every_row_that_occurs_is_trained_where_the_models_padding_does_not_occur():
    """A tokenizer that pads with another token than the model's configuration names."""
    whole, part = (make_model(layers=1, pad_token_id=9) for _ in range(2))
    steps(whole, 0.0)
    with train_active_rows(part, IDS):
        steps(part, 0.0)
    torch.testing.assert_close(table(part).weight, table(whole).weight, atol=1e-5, rtol=1e-4)


def test_evaluated_it_is_the_whole_table_up_to_date():
    model = make_model(layers=1)
    with train_active_rows(model, IDS):
        steps(model, 0.0)
        model.eval()
        inside = model(torch.tensor([[2, 5, 30]])).logits  # 30 does not occur in training
    torch.testing.assert_close(model(torch.tensor([[2, 5, 30]])).logits, inside)
    with train_active_rows(model, IDS), pytest.raises(IndexError):
        model.train()
        model(torch.tensor([[30]]))


def test_saved_and_loaded_it_is_whole():
    model, other = make_model(layers=1), make_model(layers=1)
    keys = list(model.state_dict())
    with train_active_rows(model, IDS):
        steps(model, 0.0)
        state = copy.deepcopy(model.state_dict())
    assert list(state) == keys
    other.load_state_dict(state)
    assert torch.equal(table(other).weight, table(model).weight)
    again = make_model(layers=1)
    with train_active_rows(again, IDS):
        again.load_state_dict(state)
        assert torch.equal(table(again).weight, table(model).weight[IDS])
    assert torch.equal(table(again).weight, table(model).weight)


def test_processes_do_not_send_each_other_the_table_yet_it_goes_where_the_model_goes():
    model = make_model(layers=1)
    shared = [name for name, _ in model.named_buffers()]
    with train_active_rows(model, IDS):
        assert [name for name, _ in model.named_buffers()] == shared
        steps(model.double(), 0.0)
        model.eval()
        inside = model(torch.tensor([[2, 5, 30]])).logits
        assert inside.dtype == torch.float64
    model.double()
    torch.testing.assert_close(model(torch.tensor([[2, 5, 30]])).logits, inside, atol=1e-6, rtol=0)


def test_left_alone_where_it_would_be_wrong_or_useless():
    tied = AutoModelForMaskedLM.from_config(make_model().config)
    frozen = make_model()
    table(frozen).weight.requires_grad_(False)
    for model, ids in (
        (tied, IDS),
        (frozen, IDS),
        (make_model(), np.arange(30)),
        (make_model(), None),
    ):
        with train_active_rows(model, ids):
            assert not isinstance(table(model), ActiveRowsEmbedding)


def test_the_ids_that_occur(tokenizer):
    rows = encoded(tokenizer, 25)
    expected = sorted({id for row in rows["input_ids"] for id in row} | {0})
    assert DistillationDataset(rows, collator(tokenizer)).embedding_ids().tolist() == expected
    chosen = rows.select([4, 9])
    expected = sorted({id for row in chosen["input_ids"] for id in row} | {0})
    assert DistillationDataset(chosen, collator(tokenizer)).embedding_ids().tolist() == expected
