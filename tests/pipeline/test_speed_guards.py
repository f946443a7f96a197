"""What speed rests on, counted and not timed."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distill.data.dataset import DistillationDataset
from distill.modeling.active_rows_embedding import train_active_rows
from distill.modeling.families import layer_stack
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import collator, encoded, make_model

VOCABULARY, WIDTH = 5000, 32
TASK = SequenceClassification()


class Tensors(TorchDispatchMode):
    """The sizes of all tensors that operations make, views aside."""

    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((arguments, keywords))
            if isinstance(leaf, torch.Tensor)
        }
        result = function(*arguments, **(keywords or {}))
        self.sizes += [
            leaf.numel()
            for leaf in tree_leaves(result)
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in given
        ]
        return result


@pytest.fixture
def batches(tokenizer):
    rows = encoded(tokenizer, 60)
    logits = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    return DistillationDataset(rows, collator(tokenizer), teacher_logits=logits)


def step(model, batches, indices):
    """One distillation step with stored outputs, clipping and AdamW; the tensors that it makes."""
    objective = Objective("kd", soft_targets=SoftTargets(0.5, 2.0), hard_labels=HardLabels(0.5))
    module = DistillationModule(model.train(), objective.bind(ModelPair(TASK, 2)), TASK, AdamW())
    module.log = lambda *_, **__: None
    module.lr_schedulers = lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def once():
        loss = module.training_step(batches[indices], 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    once()  # the optimizer makes its state once
    with Tensors() as made:
        once()
    return made.sizes


def test_a_step_makes_nothing_of_the_size_of_the_word_table(batches):
    model = make_model(layers=2, vocab_size=VOCABULARY)
    with train_active_rows(model, batches.embedding_ids()):
        sizes = step(model, batches, list(range(8)))
    assert max(sizes) < VOCABULARY * WIDTH / 10
    # Without it, it does: this test can fail.
    assert max(step(model, batches, list(range(8)))) >= VOCABULARY * WIDTH


def test_a_step_computes_the_last_layer_for_the_tokens_that_are_read(batches):
    model, seen = make_model(layers=3), []
    for layer in layer_stack(model).layers:
        layer.intermediate.register_forward_hook(lambda m, a, out: seen.append(out.shape[:2]))
    step(model, batches, [4, 9, 20])
    longest = max(len(ids) for ids in batches.student[[4, 9, 20]]["input_ids"])
    assert seen == [(3, longest), (3, longest), (3, 1)] * 2


def test_no_batch_is_padded_beyond_its_longest_and_batches_are_of_like_length(batches):
    lengths = np.asarray(batches.student["length"])
    padded = total = 0
    for seed in (None, 0):
        seen = []
        loader = batches.loader(6, seed)
        for indices, batch in zip(loader.sampler, loader, strict=True):
            shape = batch["student"]["input_ids"].shape
            assert shape == (len(indices), lengths[indices].max())
            padded += shape.numel() - lengths[indices].sum()
            total += shape.numel()
            seen += indices
        assert sorted(seen) == list(range(60))
    assert padded / total < 0.1


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*treespec, LeafSpec")
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_with_stored_outputs_no_epoch_asks_the_teacher(batches, monkeypatch):
    student, asked = make_model(layers=1), []
    monkeypatch.setattr("distill.training.module.forward_with_features", _counting(asked))
    objective = Objective("kd", soft_targets=SoftTargets(0.5, 2.0), hard_labels=HardLabels(0.5))
    module = DistillationModule(student.train(), objective.bind(ModelPair(TASK, 2)), TASK, AdamW())
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, batches.loader(16, 0), batches.loader(16, None))
    assert asked == [student] * (2 * 4)  # the student alone, once a batch


def _counting(asked):
    from distill.modeling.features import forward_with_features

    def counted(model, *arguments):
        asked.append(model)
        return forward_with_features(model, *arguments)

    return counted
