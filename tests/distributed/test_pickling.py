"""Models arrive whole in another process."""

import torch

from distill.data.dataset import DistillationDataset
from distill.distributed import pickling
from distill.modeling.features import forward_with_features
from tests.factories import collator, encoded, make_model


def test_a_model_is_sent_whole_even_if_it_has_recorded_its_outputs(tokenizer):
    model = make_model(layers=2).eval().requires_grad_(False)
    inputs = DistillationDataset(encoded(tokenizer, 3), collator(tokenizer))[[0, 1, 2]]["student"]
    needs = frozenset({"logits", "hidden_states"})
    before = forward_with_features(model, inputs, needs)  # installs hooks
    copy, same_copy = pickling.loads(pickling.dumps([model, model]))
    assert copy is same_copy and not copy.training
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    after = forward_with_features(copy, inputs, needs)
    assert torch.equal(after.logits, before.logits)
    assert len(after.hidden_states) == 3
    assert all(map(torch.equal, after.hidden_states, before.hidden_states))
