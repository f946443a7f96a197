"""Old runs, configs and option names go on working."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from distill.config import legacy
from distill.config.validation import validate_config
from distill.core.errors import UserError
from tests.config.test_configs import DEMANDING
from tests.factories import composed

OLD = OmegaConf.load(Path(__file__).parent / "version_0_1_0.yaml")
# Classes of version 0.1.0 that a config could name and whose paths are the same today.
UNCHANGED = [
    "distill.tasks.masked_lm.MaskedLM",
    "distill.tasks.multi_label.MultiLabel",
    "distill.tasks.question_answering.QuestionAnswering",
    "distill.tasks.regression.Regression",
    "distill.tasks.sequence_classification.SequenceClassification",
    "distill.tasks.token_classification.TokenClassification",
]


def old_config(**changes) -> dict:
    """What version 0.1.0 wrote as config.yaml of a default run."""
    chosen = {
        "task": "sequence_classification", "data": "files", "teacher": "hub", "student": "half",
        "objective": "kd", "optimizer": "adamw", "trainer": "default",
    }  # fmt: skip
    nodes = {
        group: OmegaConf.to_container(OLD[f"{group}/{choice}"]) for group, choice in chosen.items()
    }
    rest = {
        "seed": 0, "control": False, "output_dir": None, "cache_dir": "cache", "resume": None,
        "name": "films-half-kd", "overrides": ["student=half"],
        "hydra": {
            "run": {"dir": "${run_dir:${output_dir},${resume},${name}}"}, "output_subdir": None
        },
    }  # fmt: skip
    config = OmegaConf.create({**nodes, **rest})
    for option, value in changes.items():
        OmegaConf.update(config, option, value)
    return config


@pytest.fixture
def old_run(small):
    """Settings of ``small``, as an old run's config.yaml holds them."""
    given = dict(override.split("=", 1) for override in small)
    given = {key: value for key, value in given.items() if "." in key or key == "cache_dir"}
    numbers = {
        "data.max_length": 24, "trainer.max_epochs": 2, "teacher.epochs": 4,
        "teacher.learning_rate": 3e-3, "optimizer.learning_rate": 3e-3,
    }  # fmt: skip
    return old_config(**given | numbers)


def notes(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("note: ")]


# Class paths


@pytest.mark.parametrize("path", [*legacy.TARGETS, *UNCHANGED])
def test_every_class_of_before_is_found(path):
    new = legacy.update_config(OmegaConf.create({"_target_": path}))["_target_"]
    assert get_object(new).__qualname__ == new.rpartition(".")[2]


def test_every_class_that_old_configs_name_is_in_the_table():
    def targets(node):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key == "_target_" else targets(value)

    named = set(targets(OmegaConf.to_container(OLD)))
    assert len(named) > 30
    assert named <= {*legacy.TARGETS, *UNCHANGED}


@pytest.mark.parametrize("choice", [str(key) for key in OLD])
def test_every_preset_of_before_binds(choice):
    group, name = choice.split("/")
    config = composed()
    OmegaConf.set_struct(config, False)
    if group == "schedule":
        config.objective.soft_targets.temperature = OLD[choice]
    elif group == "augmentation":
        config.data.augmentation = OLD[choice]
    else:
        config[group] = OLD[choice]
    config = legacy.update_config(config)
    if group == "search":
        instantiate(config.search, _convert_="all")
        return
    validate_config(config)
    part = {"schedule": "objective", "augmentation": "data"}.get(group, group)
    with DEMANDING.get(name, nullcontext()):
        instantiate(config[part], _convert_="all")


# Old runs


def test_an_old_config_is_a_primary_config(old_run, command, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    OmegaConf.save(old_run, folder / "config.yaml")
    given = ["--config-path", str(folder), "--config-name", "config"]
    code, _, err = command(*given, "output_dir=again", "data.unlabeled_limit=null")
    assert code == 0, err
    assert notes(err) == [
        "note: data.unlabelled is now data.unlabeled",
        "note: data.unlabelled_limit is now data.unlabeled_limit",
        "note: standardise is now standardize",
    ]
    assert json.loads(Path("again/report.json").read_text())["task"] == "sequence_classification"
    written = Path("again/config.yaml").read_text()
    assert "unlabelled" not in written
    assert "distill.losses" not in written


def test_an_old_run_is_resumed(old_run, command):
    Path("stopped").mkdir()
    OmegaConf.save(old_run, "stopped/config.yaml")
    code, _, err = command("resume=stopped")
    assert code == 0, err
    assert len(notes(err)) == 3
    assert Path("stopped/report.json").is_file()


# Option names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data.unlabelled=more.txt", "data.unlabeled=more.txt"),
        ("data.unlabelled_limit=3", "data.unlabeled_limit=3"),
        ("++data.unlabelled=null,more.txt", "++data.unlabeled=null,more.txt"),
        ("~data.unlabelled", "~data.unlabeled"),
        ("objective.soft_targets.standardise=true", "objective.soft_targets.standardize=true"),
        ("+objective.a.b.standardise=true", "+objective.a.b.standardize=true"),
        ("objective.a={weight: 1,standardise: true}", "objective.a={weight: 1,standardize: true}"),
        ("objective.a.measure=mse,normalised_mse", "objective.a.measure=mse,normalized_mse"),
        ("data.limit=${data.unlabelled_limit}", "data.limit=${data.unlabeled_limit}"),
    ],
)
def test_old_overrides(old, new, capsys):
    with legacy.rename_notices():
        assert legacy.update_overrides([old]) == [new]
        assert legacy.update_overrides([old]) == [new]
    assert len(notes(capsys.readouterr().err)) == 1


@pytest.mark.parametrize(
    "argument",
    [
        "data.path=unlabelled", "data.path=standardise", "name=normalised_mse", "-m", "unlabelled",
        "objective.standardise.weight=1", "data.path='{a}/unlabelled'", "--config-name=unlabelled",
    ],
)  # fmt: skip
def test_what_is_no_old_name_stays(argument, capsys):
    with legacy.rename_notices():
        assert legacy.update_overrides([argument]) == [argument]
    assert capsys.readouterr().err == ""


def test_old_keys_of_a_file():
    old = {
        "data": {"unlabelled": None, "limit": "${data.unlabelled_limit}", "path": "???"},
        "hydra": {"sweeper": {"params": {"data.unlabelled": "null,more.txt"}}},
        "search": {"space": {"objective.a.measure": ["mse", "normalised_mse"]}},
        "objective": {"unlabelled": {"weight": 1.0}},
    }
    new = legacy.update_config(OmegaConf.create(old))
    assert OmegaConf.to_container(new) == {
        "data": {"unlabeled": None, "limit": "${data.unlabeled_limit}", "path": "???"},
        "hydra": {"sweeper": {"params": {"data.unlabeled": "null,more.txt"}}},
        "search": {"space": {"objective.a.measure": ["mse", "normalized_mse"]}},
        "objective": {"unlabelled": {"weight": 1.0}},
    }
    assert legacy.update_config(new) is new


def test_both_names_of_an_option_are_refused():
    config = OmegaConf.create({"data": {"unlabelled": "a.txt", "unlabeled": "b.txt"}})
    with pytest.raises(UserError, match="unlabelled is the old name of unlabeled"):
        legacy.update_config(config)


def test_outside_a_command_nothing_is_printed(capsys):
    legacy.update_overrides(["data.unlabelled=more.txt"])
    assert capsys.readouterr().err == ""


def test_an_experiment_by_its_old_name(command, small):
    code, _, err = command(
        *small, "experiment=unlabelled", "data.unlabeled=nowhere.txt", "data.limit=100"
    )
    assert code == 2
    note, error = err.splitlines()
    assert note == "note: experiment=unlabelled is now experiment=unlabeled"
    assert "data.unlabeled=nowhere.txt" in error


def test_own_files_may_have_old_names(command, small, tmp_path):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [override /student: third]\n"
        "data: {unlabelled: nowhere.txt}\n"
        "objective: {soft_targets: {_target_: distill.losses.soft_targets.SoftTargets, "
        "standardise: false}}\n"
    )
    code, _, err = command("--config-dir", f"{tmp_path}/own", *small, "experiment=mine")
    assert code == 2, err
    assert notes(err) == [
        "note: data.unlabelled is now data.unlabeled",
        "note: standardise is now standardize",
    ]
    assert "data.unlabeled=nowhere.txt: there is no such file" in err.splitlines()[-1]


def test_a_sweep_over_an_old_name(command, small):
    code, out, err = command(
        "-m", *small, "data.unlabelled=nowhere.txt,./missing", "control=false", "output_dir=sweep"
    )
    assert code == 2, out
    assert notes(err) == ["note: data.unlabelled is now data.unlabeled"]
    assert len([line for line in err.splitlines() if "data.unlabeled=" in line]) == 2


def test_a_program_around_keeps_its_own_files(tmp_path):
    """Old names are replaced for this program alone, and its Hydra state is put back."""
    from hydra.core.singleton import Singleton

    from distill.config.composition import compose_run

    before = dict(Singleton._instances)
    config, folder = compose_run(["data.unlabelled=a.txt", f"output_dir={tmp_path}/run"])
    assert config.data.unlabeled == "a.txt"
    assert config.overrides == ["data.unlabeled=a.txt", f"output_dir={tmp_path}/run"]
    assert folder == tmp_path / "run"
    assert not folder.exists()
    assert Singleton._instances == before
    assert "hydra" not in config
