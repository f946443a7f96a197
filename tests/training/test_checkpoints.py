"""Checkpoints: whole or the one before, wherever the folder is."""

import os
import shutil

import pytest
import torch

from distill.training import checkpoints
from distill.training.callbacks import BestCheckpoint, PatientStopping
from distill.training.checkpoints import CheckpointFiles, find_checkpoint, is_whole, load_weights
from tests.core.test_checksums import flip


def state(step: int, best: str = "") -> dict:
    callbacks = {"BestCheckpoint": {"best_model_path": best}}
    return {"global_step": step, "callbacks": callbacks, "state_dict": {"w": torch.ones(50) * step}}


@pytest.fixture
def folder(tmp_path):
    """A training after two epochs."""
    files = CheckpointFiles(tmp_path / "checkpoints")
    for step in (10, 20):
        best = files.folder / "best.ckpt"
        files.save_checkpoint(state(step), best)
        files.save_checkpoint(state(step, str(best)), files.folder / "last.ckpt")
    return files.folder


def find(folder):
    found = find_checkpoint(folder, "student", keeps_best=True)
    return found and (found.file.name, found.step)


def test_the_last_checkpoint_and_the_one_before_are_kept(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "best.ckpt", "checksums.json", "last.ckpt", "previous.ckpt",
    ]  # fmt: skip
    assert find(folder) == ("last.ckpt", 20)
    assert torch.equal(load_weights(folder / "best.ckpt", "")["w"], torch.full((50,), 20.0))


FAULTS = {
    "bit": flip,
    "short": lambda file: os.truncate(file, 100),
    "empty": lambda file: os.truncate(file, 0),
    "missing": lambda file: file.unlink(),
    "folder": lambda file: [file.unlink(), file.mkdir()],
    "another training's": lambda file: torch.save(state(99), file),
    "best's": lambda file: shutil.copy(file.parent / "best.ckpt", file),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_damaged_one_is_passed_over_for_the_one_before(folder, caplog, fault):
    fault(folder / "last.ckpt")
    assert find(folder) == ("previous.ckpt", 10)
    assert "continues from the checkpoint before" in caplog.text
    fault(folder / "previous.ckpt")
    assert find(folder) is None
    assert not list(folder.iterdir()), "nothing is left that could be taken for a checkpoint"


@pytest.mark.parametrize(
    "names", [["last.ckpt"], ["previous.ckpt"], ["last.ckpt", "previous.ckpt"]]
)
def test_a_folder_in_the_place_of_a_checkpoint_is_replaced(folder, names):
    for name in names:
        FAULTS["folder"](folder / name)
    find(folder)
    CheckpointFiles(folder).save_checkpoint(state(30), folder / "last.ckpt")
    assert find(folder) == ("last.ckpt", 30)


@pytest.mark.parametrize("fault", list(FAULTS.values())[:-1], ids=list(FAULTS)[:-1])
def test_without_its_best_weights_a_training_starts_again(folder, fault):
    fault(folder / "best.ckpt")
    assert find_checkpoint(folder, "student", keeps_best=False) is not None
    assert find(folder) is None


def test_damaged_checksums_prove_nothing(folder):
    flip(folder / "checksums.json", 0.3)
    (folder / "checksums.json").write_text("{")
    assert find(folder) is None


def test_checkpoints_of_an_earlier_version_have_no_checksums(folder):
    (folder / "checksums.json").unlink()
    assert find(folder) == ("last.ckpt", 20)
    content = (folder / "last.ckpt").read_bytes()  # a bit of the weights, 20.0 each
    (folder / "last.ckpt").write_bytes(content.replace(b"\0\0\xa0A", b"\0\1\xa0A", 1))
    assert not is_whole(folder / "last.ckpt")
    assert find(folder) == ("previous.ckpt", 10)


@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_around_a_renaming_leaves_a_whole_one(folder, monkeypatch, number):
    renamed = []
    replace = type(folder).replace

    def killed(path, target):
        if path.suffix == ".ckpt" or path.name == ".last.ckpt.partial":
            renamed.append(path.name)
            if len(renamed) == number:
                raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(type(folder), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        best = str(folder / "best.ckpt")
        CheckpointFiles(folder).save_checkpoint(state(30, best), folder / "last.ckpt")
    assert find(folder) == (("last.ckpt", 20) if number == 1 else ("previous.ckpt", 20))


def test_a_full_disk_leaves_the_last_good_one(folder, monkeypatch):
    def full(content, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        CheckpointFiles(folder).save_checkpoint(state(30), folder / "last.ckpt")
    assert find(folder) == ("last.ckpt", 20)
    assert not list(folder.glob(".*"))


def test_a_pickled_checkpoint_is_not_run(tmp_path, monkeypatch):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"global_step": 1, "x": Canary()}, tmp_path / "last.ckpt")
    assert find(tmp_path) is None
    torch.save({"global_step": 1, "x": Canary()}, tmp_path / "other.ckpt")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        CheckpointFiles(tmp_path).load_checkpoint(tmp_path / "other.ckpt")
    assert not (tmp_path / "canary").exists()


def test_a_moved_folder_has_its_own_best_weights(tmp_path):
    before = BestCheckpoint(tmp_path / "old", "m", "l", "max")
    before.best_model_path = str(tmp_path / "old" / "best.ckpt")
    before.best_model_score = torch.tensor(0.5)
    before.best_k_models = {before.best_model_path: torch.tensor(0.5)}
    moved = BestCheckpoint(tmp_path / "new", "m", "l", "max")
    moved.load_state_dict(before.state_dict())
    assert moved.best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert float(moved.best_model_score) == 0.5


def test_a_training_that_was_stopped_early_is_not_continued():
    class Trainer:
        should_stop = False

    stopping, trainer = PatientStopping("m", "l", "max", 2), Trainer()
    stopping.load_state_dict({"best": [0.5, 0.1], "waited": 1})
    stopping.on_train_start(trainer, None)
    assert not trainer.should_stop
    stopping.load_state_dict({"best": [0.5, 0.1], "waited": 2})
    stopping.on_train_start(trainer, None)
    assert trainer.should_stop
