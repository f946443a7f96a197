"""Linear layers with oneDNN's weights: the same numbers, and nothing left behind."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from distill.core import hardware
from distill.core.hardware import Hardware
from distill.data.dataset import DistillationDataset
from distill.modeling.packed_linear import pack_linears, packed_linears
from distill.training.inference import predict_logits
from tests.factories import collator, encoded, make_model

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch was built without oneDNN"
)


@pytest.mark.parametrize("shape", [(1, 256), (7, 256), (3, 5, 256), (1500, 256), (0, 256)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_are_those_of_torch(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(256, 300, bias=bias)
    inputs = torch.randn(shape)
    with torch.inference_mode():
        expected = layer(inputs)
        with packed_linears(nn.Sequential(layer), enabled=True):
            found = layer(inputs)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_layers_are_as_before_afterwards():
    model = nn.Sequential(nn.Linear(256, 256), nn.Linear(8, 8))
    with pytest.raises(KeyError), packed_linears(model, enabled=True):
        assert "forward" in model[0].__dict__
        assert "forward" not in model[1].__dict__  # too small to gain
        raise KeyError
    assert "forward" not in model[0].__dict__
    model[0](torch.randn(2, 256)).sum().backward()
    assert model[0].weight.grad is not None
    pickle.dumps(copy.deepcopy(model))


def test_contexts_may_be_nested_and_layers_shared():
    shared = nn.Linear(256, 256)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    inputs = torch.randn(4, 256)
    with torch.inference_mode(), packed_linears(model, enabled=True):
        expected = model(inputs)
        with packed_linears(model, enabled=True):
            assert torch.equal(model(inputs), expected)
        assert "forward" in shared.__dict__
    assert "forward" not in shared.__dict__


def test_what_needs_a_gradient_or_another_precision_is_computed_by_torch():
    layer = nn.Linear(256, 256)
    pack_linears(layer, enabled=True)
    inputs = torch.randn(4, 256, requires_grad=True)
    layer(inputs).sum().backward()
    assert inputs.grad is not None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(4, 256)).dtype == torch.bfloat16


def test_subclasses_and_other_precisions_stay():
    class Doubled(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    model = nn.Sequential(Doubled(256, 256), nn.Linear(256, 256, dtype=torch.bfloat16))
    assert pack_linears(model, enabled=True) == []


def test_an_output_layer_over_a_vocabulary_stays():
    sizes = {"hidden_size": 256, "num_attention_heads": 2, "intermediate_size": 256}
    model = BertForMaskedLM(BertConfig(vocab_size=600, num_hidden_layers=1, **sizes))
    packed = pack_linears(model, enabled=True)
    assert packed and model.get_output_embeddings() not in packed


def test_logits_of_a_split_are_those_of_torch(tokenizer, monkeypatch):
    model = make_model(hidden_size=256, intermediate_size=256)
    examples = DistillationDataset(encoded(tokenizer, 20), collator(tokenizer))
    cpu = Hardware(torch.device("cpu"), "32-true")
    found = []
    for slow in (False, True):
        monkeypatch.setattr("distill.modeling.packed_linear.mkl_is_slow", lambda slow=slow: slow)
        found.append(predict_logits(model, examples, cpu))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert not any("forward" in layer.__dict__ for layer in model.modules())


@pytest.mark.parametrize(
    ("vendor", "avx512", "slow"),
    [("AuthenticAMD", True, True), ("AuthenticAMD", False, False), ("GenuineIntel", True, False)],
)
def test_where_mkl_is_slow(vendor, avx512, slow, monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    monkeypatch.setattr(hardware, "processor_field", lambda name: vendor)
    assert hardware.mkl_is_slow.__wrapped__() is slow


def test_fields_of_the_processor(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "vendor_id\t: AuthenticAMD\nflags: a: b\n")
    assert hardware.processor_field("vendor_id") == "AuthenticAMD"
    assert hardware.processor_field("model name") == ""
