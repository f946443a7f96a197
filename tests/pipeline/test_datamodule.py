from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from datasets import Dataset

from distill.config.composition import compose_run
from distill.data.prepare import prepare_data
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.student.base import StudentContext
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.prepare import TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger
from distill.training.module import DistillationModule


def test_texts_that_are_cut_are_said():
    def notes(lengths):
        rows = Dataset.from_dict({"length": lengths})
        return SequenceClassification().preprocessor.notes({"train": rows}, 8)

    assert notes([8] * 30 + [3] * 70) == [
        "30% of the training texts fill data.max_length=8 tokens: what goes beyond is cut."
    ]
    assert notes([7] * 100) == []


def built(small, *overrides):
    """Return components, student and datamodule of a run that is about to train."""
    config, _ = compose_run([*map(str, small), *overrides], "config")
    components = RunComponents.from_config(config)
    data = prepare_data(components.source, components.task.schema, components.cache_dir)
    components.bind_objective(len(data.label_names))
    Path("logs").mkdir()  # as a run's folder is there before its teacher
    teacher = prepare_teacher(
        components.teacher,
        TeacherPreparation(
            data, components.task, components.trainer, components.source.max_length,
            components.cache_dir, TensorBoardLogger(Path("logs")),
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    student = components.student.build(
        StudentContext(teacher.primary, components.task, data, components.cache_dir)
    )
    datamodule = DistillationDataModule(components, data, teacher, student)
    return components, student, datamodule


def test_a_student_may_read_more_of_a_text_than_its_teacher(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, _, datamodule = built(small, "student=static", "data.max_length=6", "student.max_length=30")
    assert max(datamodule.teacher_evaluation.examples.lengths) == 6
    for dataset in (datamodule.test, datamodule.validation, datamodule.control_train):
        assert max(dataset.lengths) > 6


# Lightning asks torch in a way that torch 2.13 deprecates; batches come from memory-mapped files.
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*number of training batches.*smaller than.*")
def test_a_lightning_trainer_of_ones_own_takes_the_datamodule(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    components, student, datamodule = built(small, "trainer.max_epochs=1")
    before = {key: value.clone() for key, value in student.model.state_dict().items()}
    module = DistillationModule(
        student.model.train(), components.stages[0].objective, components.task,
        components.optimizer,
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=datamodule)
    assert "validation/accuracy" in trainer.callback_metrics
    assert len(datamodule.train_dataloader()) == -(-240 // components.source.batch_size)
    assert sum(len(batch["rows"]) for batch in datamodule.test_dataloader()) == 80
    changed = [not torch.equal(before[k], v) for k, v in student.model.state_dict().items()]
    assert any(changed)
