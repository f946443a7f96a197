"""A run's folder is one run: what continues in it, what is refused, and what stays unharmed."""

import json
from pathlib import Path

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from distill.config.composition import compose_run
from distill.config.naming import run_dir
from distill.core.errors import UserError
from distill.pipeline import run_identity
from distill.pipeline.run_directory import RunDirectory
from tests.factories import sentences, write_csv


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Composing a config makes the run's folder."""
    monkeypatch.chdir(tmp_path)


def config_of(*overrides: str):
    base = ("data=files", "data.path=here", "teacher.path=there", "student=half")
    return compose_run([*base, *overrides])[0]


@pytest.fixture
def begun(tmp_path) -> Path:
    """A folder in which a run was begun."""
    RunDirectory(tmp_path / "run").begin(config_of("output_dir=x"), {"the data of train": "1"})
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=1", "seed: 0, now 1"),
        ("student=single", "student.layers: half, now single"),
        ("objective.soft_targets.temperature=4", "temperature: 2.0, now 4"),
        ("optimizer.learning_rate=1e-4", "optimizer.learning_rate: null, now 0.0001"),
        ("data.path=elsewhere", "data.path: here, now elsewhere"),
        ("objective=kd_mse", "now absent"),
        ("control=false", "control: True, now False"),
        ("+trainer.gradient_clip_algorithm=value", "absent, now value"),
        ("augmentation=masking", "data.augmentation: null"),
    ],
)
def test_other_settings_are_refused_with_the_ways_out(begun, override, named):
    before = {file.name: file.read_bytes() for file in begun.iterdir()}
    with pytest.raises(run_identity.OtherRunError) as raised:
        run_identity.check_same_settings(begun, config_of(override))
    message = str(raised.value)
    assert named in message
    for way in ("resume=", "another output_dir", "overwrite=true"):
        assert way in message
    assert {file.name: file.read_bytes() for file in begun.iterdir()} == before


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["output_dir=elsewhere"],
        ["cache_dir=elsewhere"],
        ["objective.soft_targets.temperature=2", "seed=0"],
        ["seed=0", "objective.soft_targets.temperature=2"],
    ],
)
def test_the_same_run_continues(begun, overrides):
    run_identity.check_same_settings(begun, config_of(*overrides))


@pytest.mark.parametrize(
    "inputs",
    [
        {"the data of train": "2"},
        {},
        {"the data of train": "1", "the teacher": "3"},
    ],
)
def test_other_inputs_are_refused(begun, inputs):
    with pytest.raises(run_identity.OtherRunError, match="changed since this run began"):
        RunDirectory(begun).begin(config_of(), inputs)


@pytest.mark.parametrize("found", ["student", "checkpoints", "report.json"])
def test_what_is_no_run_is_left_alone(tmp_path, found):
    (tmp_path / found).mkdir()
    with pytest.raises(run_identity.OtherRunError, match=found):
        run_identity.check_same_settings(tmp_path, config_of())


@pytest.mark.parametrize("content", ["a: [", "- 1\n", "\x00\x01", "other: 1\n", "${x"])
def test_a_broken_config(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        run_identity.check_same_settings(tmp_path, config_of())
    assert (tmp_path / "config.yaml").read_text() == content


def test_overwrite_removes_the_run_and_nothing_else(begun):
    for name in ("student", "control", "checkpoints", "repeats"):
        (begun / name).mkdir()
        (begun / name / "weights").write_text("old")
    (begun / "mine.txt").write_text("mine")
    (begun / "events.out.tfevents.1").write_text("old")
    config = config_of("seed=1", "overwrite=true")
    assert RunDirectory(begun).begin(config, {"the data of train": "2"}) is None
    assert {file.name for file in begun.iterdir()} == {"config.yaml", "inputs.json", "mine.txt"}
    assert json.loads((begun / "inputs.json").read_text()) == {"the data of train": "2"}
    # Repeating the new run from its config.yaml must not replace anything.
    assert run_identity.read_config(begun).overwrite is False


def test_a_folder_that_another_process_writes_into(command, small, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / run_identity.LOCK):
        code, _, err = command(*small, "output_dir=run")
        assert (code, err.count("\n")) == (2, 1)
        assert "another run is writing into it" in err
        OmegaConf.save(config_of(*small), "run/config.yaml")
        code, _, err = command("resume=run")
        assert code == 2
        assert "another run is writing into it" in err
    assert {file.name for file in (tmp_path / "run").iterdir()} <= {
        run_identity.LOCK,
        "config.yaml",
    }


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/below"):
        with (
            pytest.raises(UserError, match="is a file, not a folder"),
            run_identity.locked(tmp_path / folder),
        ):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_names_of_the_same_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distill.config.naming._now", lambda: "1127-120000")
    names = [run_dir(None, None, "data-half-kd") for _ in range(3)]
    assert names == [f"runs/data-half-kd-1127-120000{end}" for end in ("", "-2", "-3")]
    assert all(Path(name).is_dir() for name in names)


def test_data_that_changed_between_two_attempts(command, small, tmp_path, monkeypatch):
    """A run that was stopped before its training continues only on the same data."""
    write_csv(tmp_path / "d" / "train.csv", sentences(80, 1))
    given = [*small, f"data.path={tmp_path}/d", "output_dir=run"]

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("distill.training.trainer.TrainerFactory.fit", stop)
    assert command(*given)[0] == 130
    assert command(*given)[0] == 130  # the same run goes on
    write_csv(tmp_path / "d" / "train.csv", sentences(80, 2))
    before = {file.name: file.read_bytes() for file in Path("run").glob("*.*")}
    before.pop("run.log", None)
    for overrides in (given, ["resume=run"]):
        code, _, err = command(*overrides)
        assert code == 2
        assert "changed since this run began" in err
    assert all(Path("run", name).read_bytes() == content for name, content in before.items())
    assert not Path("run/error.txt").exists()
    assert command(*given, "overwrite=true")[0] == 130
