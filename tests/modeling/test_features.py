"""What is captured of a model is what the model computes."""

import pytest
import torch

from distill.core.errors import UserError
from distill.modeling.features import ModelOutputs, forward_with_features
from tests.factories import make_model

INPUTS = {
    "input_ids": torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_attention_is_that_of_the_eager_kernel(family):
    model = make_model(family, layers=3).eval()
    taken = forward_with_features(model, INPUTS, {"attention", "hidden_states"})
    model.set_attn_implementation("eager")
    expected = model(**INPUTS, output_attentions=True, output_hidden_states=True)
    assert len(taken.attention) == len(expected.attentions) == 3
    hidden = (INPUTS["attention_mask"] == 0)[:, None, None, :]
    for ours, theirs in zip(taken.attention, expected.attentions, strict=True):
        maps = torch.softmax(ours.scores.masked_fill(hidden, -1e9), -1)
        assert torch.allclose(maps, theirs, atol=1e-5)
    for ours, theirs in zip(taken.hidden_states, expected.hidden_states, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(taken.logits, expected.logits, atol=1e-5)


def test_nothing_listens_any_more_afterwards():
    model = make_model(layers=2)
    forward_with_features(model, INPUTS, {"attention"})
    assert not any(module._forward_hooks for module in model.modules())


def test_gradients_flow_through_what_is_captured():
    model = make_model(layers=1).eval()
    forward_with_features(model, INPUTS, {"attention"}).attention[0].scores.sum().backward()
    assert model.bert.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0


def test_a_model_whose_attention_cannot_be_told_is_refused():
    model = make_model(layers=1)
    model.bert.encoder.layer[0].attention.self.another = torch.nn.ModuleDict(
        {"query": torch.nn.Linear(1, 1)}
    )
    with pytest.raises(UserError, match="cannot be identified"):
        forward_with_features(model, INPUTS, {"attention"})


@pytest.mark.parametrize("temperature", [1.0, 3.0, torch.tensor([[1.0], [4.0]])])
def test_averaged_probabilities_are_the_mean_of_the_softened_ones(temperature):
    draw = torch.Generator().manual_seed(0)
    members = {name: ModelOutputs(torch.randn(2, 4, generator=draw)) for name in ("one", "other")}
    both = ModelOutputs(torch.zeros(2, 4), members=members, averaged={"one": 0.25, "other": 0.75})
    expected = 0.25 * torch.softmax(members["one"].logits / temperature, -1)
    expected += 0.75 * torch.softmax(members["other"].logits / temperature, -1)
    assert torch.allclose(torch.softmax(both.logits_at(temperature) / temperature, -1), expected)
