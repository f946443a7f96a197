"""Computing what the head reads gives what computing everything gives."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
)

from distill.core.jagged import JaggedArray, allocate_rows
from distill.modeling.families import layer_stack
from distill.modeling.forward import forward_at_positions, output_logits
from distill.modeling.loading import call_model
from tests.factories import make_model

FAMILIES = ("bert", "roberta", "electra", "distilbert")
HEADS = (AutoModelForTokenClassification, AutoModelForMaskedLM, AutoModelForQuestionAnswering)
POSITIONS = torch.tensor([[1, 4, 6], [2, -1, -1], [0, 1, -1]])


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5])
    ids = torch.randint(5, 32, (3, 7)).where(mask.bool(), 0)
    return {"input_ids": ids, "attention_mask": mask}


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same_gradients(model, whole, part):
    expected, found = gradients(model, whole), gradients(model, part)
    for name, gradient in expected.items():
        # An unused position's share of the last layer is exactly nothing.
        torch.testing.assert_close(found.get(name, torch.zeros(())).expand_as(gradient), gradient)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_that_reads_the_first_token_alone(family, inputs):
    model = make_model(family, layers=2).eval()
    whole, part = call_model(model, inputs).logits, forward_at_positions(model, inputs).logits
    torch.testing.assert_close(part, whole)
    same_gradients(model, whole.square().sum(), part.square().sum())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("whole_layer", [False, True])
def test_a_head_at_some_positions(family, head, whole_layer, inputs):
    torch.manual_seed(0)
    model = head.from_config(make_model(family, layers=2).config).eval()
    expected = output_logits(call_model(model, inputs))
    expected = torch.cat([row[at[at >= 0]] for row, at in zip(expected, POSITIONS, strict=True)])
    found = forward_at_positions(
        model, inputs | {"positions": POSITIONS}, full_sequence=whole_layer
    ).logits
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)
    same_gradients(model, expected.square().sum(), found.square().sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_is_read_goes_through_the_last_layer_and_the_head(family, inputs):
    model = AutoModelForMaskedLM.from_config(make_model(family, layers=2).config).eval()
    wide, seen = [], []
    for module in layer_stack(model).layers[-1].modules():
        if isinstance(module, torch.nn.Linear) and 64 in (module.in_features, module.out_features):
            module.register_forward_hook(lambda m, a, out: wide.append(out.shape[:-1].numel()))
    model.get_output_embeddings().register_forward_hook(
        lambda m, a, out: seen.append(out.shape[:-1].numel())
    )
    forward_at_positions(model, inputs | {"positions": POSITIONS})
    assert wide == [POSITIONS.numel()] * 2  # feed-forward: no token but those (and what fills up)
    assert seen == [(POSITIONS >= 0).sum()]  # logits: not even what fills up
    wide.clear()
    forward_at_positions(make_model(family, layers=2).eval(), inputs)
    call_model(model, inputs)
    assert wide == [inputs["input_ids"].numel()] * 2  # nothing is left behind on the model


def test_a_model_that_is_not_known_runs_as_it_is(inputs):
    model = make_model("bert", layers=2).eval()
    model.config.model_type = "unheard-of"
    assert torch.equal(forward_at_positions(model, inputs).logits, call_model(model, inputs).logits)
    tagger = AutoModelForTokenClassification.from_config(make_model("bert").config).eval()
    tagger.config.model_type = "unheard-of"
    found = forward_at_positions(tagger, inputs | {"positions": POSITIONS}).logits
    expected = call_model(tagger, inputs).logits
    expected = torch.cat([row[at[at >= 0]] for row, at in zip(expected, POSITIONS, strict=True)])
    torch.testing.assert_close(found, expected)


def test_ragged_rows():
    counts = np.array([2, 0, 3, 1])
    rows = JaggedArray(np.arange(12).reshape(6, 2), counts)
    assert len(rows) == 4
    assert rows.shape == (4, 2)
    assert rows[[2, 0]].tolist() == [[4, 5], [6, 7], [8, 9], [0, 1], [2, 3]]
    assert rows[[1]].shape == (0, 2)
    assert [one.tolist() for one in rows.split()] == [
        [[0, 1], [2, 3]], [], [[4, 5], [6, 7], [8, 9]], [[10, 11]]
    ]  # fmt: skip
    chosen = rows.select([3, 0])
    assert chosen.counts.tolist() == [1, 2]
    assert chosen.values.tolist() == [[10, 11], [0, 1], [2, 3]]
    room = allocate_rows(counts, 4, np.zeros((1, 2)))
    for batch in ([3, 1], [0, 2]):
        room[batch] = rows[batch]
    assert np.array_equal(room.values, rows.values)
