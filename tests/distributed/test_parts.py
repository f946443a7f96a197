"""The parts of a batch, one in each process, add up to the batch."""

import copy
from types import SimpleNamespace

import pytest
import torch

from distill.core.hardware import resolve_hardware
from distill.data.dataset import DistillationDataset
from distill.data.sampler import BatchIndices
from distill.distributed.environment import ProcessRank
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.inference import iter_logits
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import NO_DROPOUT, collator, encoded, make_model, teacher_logits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_example_is_in_the_part_of_one_process_of_the_same_batch(tokenizer, count):
    rows = encoded(tokenizer, 22)  # of batches of 7, the last has 1 example
    dataset = DistillationDataset(rows, collator(tokenizer))
    whole = list(dataset.loader(7, 0).sampler)
    parts = []
    for rank in range(count):
        loader = dataset.loader(7, 0, ProcessRank(rank, count))
        assert list(loader.sampler) == whole  # so all take equally many steps
        assert [batch.rank_part for batch in loader.sampler] == [
            batch[rank::count] for batch in whole
        ]
        parts.append(list(loader))
    for indices, of_processes in zip(whole, zip(*parts, strict=True), strict=True):
        texts = [
            tuple(ids[mask == 1].tolist())
            for part in of_processes
            if len(part["rows"])
            for ids, mask in zip(
                part["student"]["input_ids"], part["student"]["attention_mask"], strict=True
            )
        ]
        assert sorted(texts) == sorted(tuple(rows[i]["input_ids"]) for i in indices)
        if count > 1:
            assert sum(part["batch_share"] for part in of_processes) == pytest.approx(count)


def test_parts_of_a_pass_are_the_whole_pass(tokenizer):
    dataset = DistillationDataset(encoded(tokenizer, 13), collator(tokenizer))
    model, hardware = make_model(layers=1), resolve_hardware("cpu", "32-true")
    whole = {
        i: row
        for own, logits in iter_logits(model, dataset, hardware, 4)
        for i, row in zip(own, logits, strict=True)
    }
    parts = {}
    for rank in range(2):
        process = ProcessRank(rank, 2)
        for own, logits in iter_logits(model, dataset, hardware, 2, process=process):
            assert not set(own) & set(parts)
            parts |= dict(zip(own, logits, strict=True))
    assert sorted(parts) == list(range(13))
    for index, row in whole.items():
        assert parts[index] == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_gradients_of_the_parts_average_to_the_gradient_of_the_batch(tokenizer, monkeypatch, size):
    """However unequal the parts are, down to none of a batch of one example."""
    rows, collate = encoded(tokenizer, 7), collator(tokenizer)
    stored = teacher_logits(make_model(layers=2).eval(), rows, collate)
    dataset = DistillationDataset(rows, collate, teacher_logits=stored)
    task = SequenceClassification()
    terms = {"soft_targets": SoftTargets(0.3, 2.0), "hard_labels": HardLabels(0.7)}
    objective = Objective("kd", **terms).bind(ModelPair(task, 2))
    start = make_model(layers=1, **NO_DROPOUT).train()

    def step(batch, mean_over_processes=None):
        monkeypatch.setattr(
            "distill.training.module.all_reduce_mean", lambda value, _: mean_over_processes(value)
        )
        module = DistillationModule(copy.deepcopy(start), objective, task, AdamW())
        module._trainer = SimpleNamespace(barebones=True, global_step=0, world_size=2)
        logged = {}
        module.log = lambda name, value, **_: logged.update({name: float(value)})
        module.lr_schedulers = lambda: SimpleNamespace(get_last_lr=lambda: [0.0])
        loss = module.training_step(batch, 0)
        loss.backward()
        logged[""] = loss.item()
        return [parameter.grad for parameter in module.parameters()], logged

    expected, log = step(dataset[list(range(size))])
    parts = [dataset[BatchIndices(range(size), ProcessRank(rank, 2))] for rank in range(2)]
    losses = []
    for part in parts:  # what each process contributes to the mean over processes
        step(part, lambda values: losses.append(values.detach()) or values)
    gradients, logs = zip(*(step(part, lambda _: sum(losses) / 2) for part in parts), strict=True)
    for whole, first, second in zip(expected, *gradients, strict=True):
        torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-7)
    assert logs[0] == pytest.approx(log, rel=1e-4)
    assert logs[0] == logs[1]
