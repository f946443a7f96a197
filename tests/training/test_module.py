"""The one LightningModule: cached equals live, the teacher stays as it is."""

import pytest
import pytorch_lightning as pl
import torch

from distill.data.dataset import DistillationDataset
from distill.modeling.features import ModelOutputs
from distill.objectives.objective import Objective
from distill.objectives.pair import ModelPair
from distill.objectives.terms.hard_labels import HardLabels
from distill.objectives.terms.soft_targets import SoftTargets
from distill.tasks.sequence_classification import SequenceClassification
from distill.training.module import DistillationModule
from distill.training.optimizer import AdamW
from tests.factories import collator, encoded, make_model, teacher_logits

TASK = SequenceClassification()
PAIR = ModelPair(TASK, 2)
pytestmark = [
    # The program itself silences these while it trains; here its parts are used bare.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
]


def module(student, teacher=None, prefix="", learning_rate=1e-3):
    objective = Objective("kd", soft_targets=SoftTargets(0.5, 2.0), hard_labels=HardLabels(0.5))
    return DistillationModule(
        student, objective.bind(PAIR), TASK, AdamW(learning_rate=learning_rate), teacher, prefix
    )


def train(model, batches, epochs=1, **settings):
    pl.seed_everything(0, verbose=False)
    model.train()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=1.0, **settings,
    )  # fmt: skip
    trainer.fit(model, batches.loader(16, 0), batches.loader(16, None))
    return model


@pytest.fixture
def rows(tokenizer):
    return encoded(tokenizer, 64)


@pytest.fixture
def teacher():
    return make_model(layers=2).eval()


def test_cached_and_live_teacher_give_the_same_loss(rows, tokenizer, teacher):
    collate = collator(tokenizer)
    logits = teacher_logits(teacher, rows, collate)
    live = DistillationDataset(rows, collate, rows, collate)
    cached = DistillationDataset(rows, collate, teacher_logits=logits)
    student = make_model(layers=1).eval()
    indices = [3, 9, 20, 41]
    losses = [
        one.objective(
            ModelOutputs(student(**batches[indices]["student"]).logits),
            one.teacher_outputs(batches[indices]),
            batches[indices],
        )["loss"]
        for one, batches in ((module(student, teacher), live), (module(student), cached))
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)


def test_cached_and_live_training_end_alike(rows, tokenizer, teacher):
    collate = collator(tokenizer)
    logits = teacher_logits(teacher, rows, collate)
    live = train(
        module(make_model(layers=1), teacher), DistillationDataset(rows, collate, rows, collate)
    )
    cached = train(
        module(make_model(layers=1)), DistillationDataset(rows, collate, teacher_logits=logits)
    )
    for one, other in zip(live.student.parameters(), cached.student.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_live_teacher_stays_in_evaluation_mode_frozen_and_unsaved(rows, tokenizer, teacher):
    collate = collator(tokenizer)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    model = train(
        module(make_model(layers=1), teacher), DistillationDataset(rows, collate, rows, collate)
    )
    assert not teacher.training
    assert all(not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert len(list(model.parameters())) == len(list(model.student.parameters()))
    assert not any("teacher" in key for key in model.state_dict())


def test_dropout_is_on_in_training_even_for_a_student_loaded_for_evaluation(
    rows, tokenizer, tmp_path
):
    """transformers loads in evaluation mode; the trainer puts the student into training mode."""
    from distill.training.trainer import TrainerFactory, TrainingPlan

    student = make_model(layers=1).eval()
    seen = []
    student.bert.encoder.layer[0].output.dropout.register_forward_hook(
        lambda module, *_: seen.append(module.training)
    )
    batches = DistillationDataset(rows, collator(tokenizer))
    model = module(student)
    model.objective = Objective("plain", hard_labels=HardLabels(1.0)).bind(PAIR)
    trainer = TrainerFactory(max_epochs=1, accelerator="cpu", precision="32-true")
    trainer.fit(
        TrainingPlan(
            module=model,
            train=batches,
            validation=batches,
            batch_size=32,
            seed=0,
            checkpoint_dir=tmp_path,
        )
    )
    assert seen[:2] == [True, True]  # two training batches
    assert seen[2:] == [False, False]  # then validation


def test_accumulation_equals_one_large_batch(rows, tokenizer):
    """Same gradient: means over equal micro-batches average to the mean over the batch."""
    collate = collator(tokenizer)
    logits = teacher_logits(make_model(layers=2).eval(), rows, collate)
    batches = DistillationDataset(rows, collate, teacher_logits=logits)
    ends = []
    for size, accumulate in ((32, 1), (16, 2)):
        model = module(
            make_model(layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        )
        pl.seed_everything(0, verbose=False)
        model.train()
        trainer = pl.Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            accumulate_grad_batches=accumulate,
        )  # fmt: skip
        order = [list(range(start, start + size)) for start in range(0, 64, size)]
        loader = torch.utils.data.DataLoader(batches, sampler=order, batch_size=None)
        trainer.fit(model, loader, batches.loader(32, None))
        ends.append([parameter.detach().clone() for parameter in model.student.parameters()])
    # AdamW's first step is the sign of the gradient times the rate: compare where it is not tiny.
    differences = [(a - b).abs().max().item() for a, b in zip(*ends, strict=True)]
    assert max(differences) < 2e-3
    assert sum(d > 1e-4 for d in differences) <= 2


def test_padding_does_not_change_the_loss(rows, tokenizer):
    """A short example costs the same alone as beside a long one."""
    collate = collator(tokenizer)
    batches = DistillationDataset(rows, collate)
    lengths = rows["length"]
    short, long = lengths.index(min(lengths)), lengths.index(max(lengths))
    student = make_model(layers=2).eval()
    with torch.no_grad():
        alone = student(**batches[[short]]["student"]).logits
        beside = student(**batches[[short, long]]["student"]).logits[:1]
    assert torch.allclose(alone, beside, atol=1e-5)
