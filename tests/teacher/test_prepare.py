import logging

import pytest
import torch

from distill.core.errors import UserError
from distill.data.prepare import prepare_data
from distill.tasks.sequence_classification import SequenceClassification
from distill.teacher.config import TeacherConfig
from distill.teacher.prepare import TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger
from distill.training.trainer import TrainerFactory
from tests.factories import Given, make_model, sentences

TASK = SequenceClassification()


@pytest.fixture
def data(tmp_path):
    splits = {"train": sentences(120, 1), "validation": sentences(30, 2), "test": sentences(30, 3)}
    return prepare_data(Given(splits), TASK.schema, tmp_path)


@pytest.fixture
def make_ready(data, tmp_path):
    def call(path, **settings):
        trainer = settings.pop("trainer", TrainerFactory(accelerator="cpu", precision="32-true"))
        given = {"epochs": 1, "learning_rate": 1e-3} | settings
        settings = TeacherConfig(path=str(path), **given)
        (tmp_path / "run").mkdir(exist_ok=True)
        logger = TensorBoardLogger(tmp_path / "run")
        preparation = TeacherPreparation(data, TASK, trainer, 24, tmp_path / "cache", logger)
        return prepare_teacher(settings, preparation)

    return call


def test_fine_tunes_once_and_reuses(make_ready, pretrained, monkeypatch):
    first = make_ready(pretrained)
    assert not first.reused
    assert first.seconds > 0
    assert first.model.config.id2label == {0: "negative", 1: "positive"}

    def trained(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrainerFactory, "fit", trained)
    second = make_ready(pretrained)
    assert second.reused
    assert second.seconds == 0
    assert second.hash == first.hash
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for changed in ({"epochs": 2}, {"learning_rate": 2e-3}, {"seed": 1}, {"batch_size": 16}):
        with pytest.raises(AssertionError, match="trained again"):
            make_ready(pretrained, **changed)


def test_fine_tuning_is_repeatable(make_ready, pretrained, tmp_path):
    import shutil

    first = make_ready(pretrained)
    shutil.rmtree(tmp_path / "cache" / "teachers")
    assert make_ready(pretrained).hash == first.hash


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_a_trained_head_is_used_as_it_is_with_labels_aligned_by_name(
    make_ready, tokenizer, tmp_path, family
):
    theirs = make_model(family, labels=("Positive", "NEGATIVE")).eval()
    theirs.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    teacher = make_ready(tmp_path / "m")
    assert teacher.reused
    ids = torch.tensor([[2, 6, 9, 12, 3]])
    with torch.no_grad():
        before, after = theirs(input_ids=ids).logits, teacher.model(input_ids=ids).logits
    assert torch.allclose(after, before[:, [1, 0]])
    assert teacher.model.config.id2label == {0: "negative", 1: "positive"}


def test_generic_names_need_to_be_named(make_ready, tokenizer, tmp_path, caplog):
    make_model(labels=("LABEL_0", "LABEL_1")).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    with caplog.at_level(logging.WARNING):
        assert not make_ready(tmp_path / "m").reused  # a new head, and said so
    assert "LABEL_0, LABEL_1" in caplog.text
    assert make_ready(tmp_path / "m", labels=["negative", "positive"]).reused
    with pytest.raises(UserError, match="are not the data's classes"):
        make_ready(tmp_path / "m", labels=["no", "yes"])
    with pytest.raises(UserError, match="names 3 classes"):
        make_ready(tmp_path / "m", labels=["negative", "positive", "neutral"])


def test_fine_tuning_can_be_asked_for_or_forbidden(make_ready, trained, pretrained):
    assert make_ready(trained).reused
    assert not make_ready(trained, fine_tune=True).reused
    with pytest.raises(UserError, match="fine_tune=false"):
        make_ready(pretrained, fine_tune=False)


def test_a_runs_folder_stands_for_its_student(make_ready, trained, tmp_path):
    import shutil

    shutil.copytree(trained, tmp_path / "earlier" / "student")
    assert make_ready(tmp_path / "earlier").reused


def test_an_interrupted_fine_tuning_goes_on(make_ready, pretrained, monkeypatch, tmp_path):
    from distill.training.callbacks import EpochLogger

    whole = make_ready(pretrained, epochs=3)
    import shutil

    shutil.rmtree(tmp_path / "cache" / "teachers")

    def stop(self, trainer, module):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            make_ready(pretrained, epochs=3)
    epochs = []
    monkeypatch.setattr(
        EpochLogger, "on_train_epoch_start", lambda self, t, m: epochs.append(t.current_epoch)
    )
    assert make_ready(pretrained, epochs=3).hash == whole.hash
    assert epochs == [2]
