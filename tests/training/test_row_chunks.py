"""A language model's training without whole logits: the same losses, gradients and metrics."""

import copy
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForMaskedLM, Gemma2Config, Gemma2ForCausalLM

from distill.core import hardware
from distill.data.dataset import DistillationDataset
from distill.modeling import forward
from distill.modeling.forward import forward_at_positions, forward_to_rows
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.decoupled_kd import DecoupledKD
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.masked_lm import MaskedLM
from distill.training.inference import predict_logits
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import collator, encoded, make_tokenizer

CPU = hardware.resolve_hardware("cpu", "32-true")
TOKENIZER = make_tokenizer([f"w{i}" for i in range(20)])


def model(seed: int) -> BertForMaskedLM:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=25, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForMaskedLM(config)


def examples(with_teacher: bool) -> DistillationDataset:
    rows = encoded(TOKENIZER, 6)
    columns = rows.remove_columns("label").to_dict()
    positions = [[1, 3], [2], [1, 2, 4], [1], [2, 3], [1]]
    labels = [[7 + place for place in row] for row in positions]
    columns |= {"positions": positions, "label": labels}
    rows, collate = Dataset.from_dict(columns), collator(TOKENIZER)
    return DistillationDataset(rows, collate, *((rows, collate) if with_teacher else ()))


def bound(**terms) -> Objective:
    return Objective("kd", **terms).bind(ModelPair(MaskedLM(), 25))


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(forward, "WHOLE_LOGITS", 0)
    monkeypatch.setattr("distill.modeling.head_rows.CHUNK_LOGITS", 3 * 25)


def quiet_module(student, objective, teacher) -> DistillationModule:
    """A module without a trainer, which would log."""
    module = DistillationModule(student, objective, MaskedLM(), AdamW(), teacher=teacher)
    module.log = lambda *_, **__: None
    module.lr_schedulers = lambda: SimpleNamespace(get_last_lr=lambda: [0.0])
    return module


def step(student: BertForMaskedLM, objective: Objective) -> torch.Tensor:
    module = quiet_module(student, objective, model(1))
    loss = module.training_step(examples(True)[[0, 1, 2, 3, 4, 5]], 0)
    loss.backward()
    return loss


def gradients(student: BertForMaskedLM) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])


def test_a_training_step_is_that_of_whole_logits(request):
    terms = {"soft_targets": SoftTargets(), "hard_labels": HardLabels()}
    whole, chunked = model(0), model(0)
    expected = step(whole, bound(**terms))
    request.getfixturevalue("everything_is_large")
    found = step(chunked, bound(**copy.deepcopy(terms)))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    difference = torch.linalg.vector_norm(gradients(chunked) - gradients(whole))
    assert difference < 1e-6 * torch.linalg.vector_norm(gradients(whole))


def test_the_step_leaves_out_the_output_layer(everything_is_large, monkeypatch):
    """Neither model runs its output layer, whose logits would be those of all positions."""

    def refuse(*_):
        raise AssertionError("the output layer was run")

    student, teacher = model(0), model(1)
    for one in (student, teacher):
        one.get_output_embeddings().register_forward_hook(
            lambda _m, _i, output: refuse() if output.shape[-1] == 25 else None
        )
    objective = bound(soft_targets=SoftTargets())
    module = quiet_module(student, objective, teacher)
    assert module.training_step(examples(True)[[0, 1, 2]], 0).requires_grad


def test_terms_that_are_not_row_wise_take_whole_logits(everything_is_large):
    objective = bound(decoupled_kd=DecoupledKD(), hard_labels=HardLabels())
    assert not objective.is_row_wise_at(0.0)
    assert step(model(0), objective).isfinite()


def test_evaluation_reduces_chunks(request):
    student, data, task = model(0).eval(), examples(False), MaskedLM()
    arguments = (student, data, CPU, 2, task.evaluator.reduce_logits)
    whole = predict_logits(*arguments).values
    module = DistillationModule(student, bound(hard_labels=HardLabels()), task, AdamW())
    batch = data[[0, 1, 2, 3, 4, 5]]
    with torch.no_grad():
        expected = module._validated(batch)
    request.getfixturevalue("everything_is_large")
    chunked = predict_logits(*arguments).values
    assert torch.allclose(torch.tensor(chunked), torch.tensor(whole), atol=1e-6)
    with torch.no_grad():
        found = module._validated(batch)
    assert torch.allclose(found[0], expected[0]) and torch.allclose(found[1], expected[1])


def test_a_model_that_caps_its_logits_computes_them_whole(everything_is_large):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=25, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=5.0,
    )  # fmt: skip
    capped = Gemma2ForCausalLM(config).eval()
    inputs = {"input_ids": torch.tensor([[3, 4, 5]]), "positions": torch.tensor([[0, 1]])}
    for _ in range(2):
        result, rows = forward_to_rows(capped, inputs)
        assert rows is None
        assert torch.equal(result.logits, forward_at_positions(capped, inputs).logits)
    config.final_logit_softcapping = None
    plain = Gemma2ForCausalLM(config).eval()
    result, rows = forward_to_rows(plain, inputs)
    expected = forward_at_positions(plain, inputs).logits
    assert torch.allclose(rows.logits(slice(None)), expected)
    assert result.logits.is_meta and result.logits.shape == expected.shape
