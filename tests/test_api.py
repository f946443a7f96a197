"""The Python API: what a script or a notebook does with it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.singleton import Singleton
from transformers import AutoModelForSequenceClassification

import distill
from tests.factories import make_model


@pytest.fixture
def options(small, tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return [*small, "debug=fast"]


def test_importing_is_light():
    code = "import distill, sys; print([m for m in ('torch', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_everything_it_names_is_there():
    assert set(distill.__all__) <= set(dir(distill))
    for name in distill.__all__:
        assert getattr(distill, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        distill.trian  # noqa: B018


def test_two_runs_as_in_a_notebook(options, capsys):
    state, root = dict(Singleton._instances), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    reports = [distill.run([*options, f"seed={seed}", "control=false"]) for seed in (0, 1)]
    assert Singleton._instances == state
    assert (root.handlers, root.level) == (handlers, level)

    for seed, report in enumerate(reports):
        assert isinstance(report, distill.Report)
        assert report.run.seed == seed
        assert report.run.overrides[-2:] == (f"seed={seed}", "control=false")
        assert 0 <= report.student.quality["accuracy"].value <= 1
        folder = Path(report.run.directory)
        assert folder.parent == Path("runs").absolute()
        content = json.loads((folder / "report.json").read_text())
        assert content == report.to_dict()
        assert distill.load_report(folder).to_dict() == content
        for file in ("config.yaml", "report.md", "student/model.safetensors", "run.log"):
            assert (folder / file).is_file()
    assert "student: epoch 1" in (folder / "run.log").read_text()
    out, err = capsys.readouterr()
    assert "accuracy  " not in out  # the table is the command's
    assert "error" not in err


def test_log_lines_are_printed_where_nobody_else_shows_them(options, capsys):
    root = logging.getLogger()
    others, root.handlers = root.handlers, []
    try:
        distill.run([*options, "control=false", "output_dir=run"])
    finally:
        root.handlers = others
    assert "student: epoch 1 of " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("student=quarter", "there is no student=quarter"),
        ("student=third,half", "student"),
        ("data.limit=many", "data.limit=many: it must be a whole number"),
        ("student.layers=[9]", "the teacher has the layers 0 to 3"),
        ("-m", "flags are for the command"),
        ("resume=runs/x", "there is no run in it"),
        ("halb", "cannot be read as NAME=VALUE"),
    ],
)
def test_a_mistake_raises(options, override, says):
    with pytest.raises(distill.UserError) as caught:
        distill.run([*options, override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_one_text_is_no_list_of_overrides(options):
    with pytest.raises(distill.UserError, match="a list"):
        distill.run("student=third")


def test_a_run_is_continued(options, monkeypatch):
    from distill.training.callbacks import EpochLogger

    def stop(self, trainer, module) -> None:
        if self.description == "student":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochLogger, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            distill.run([*options, "control=false", "output_dir=stopped"])
    with pytest.raises(distill.UserError, match="its own settings: leave out seed=3"):
        distill.run(["resume=stopped", "seed=3"])
    report = distill.run(["resume=stopped"])
    assert report.run.name == "stopped"
    assert report.control is None


# distill.evaluate


@pytest.fixture
def measured(options) -> list[str]:
    """Options of an evaluation: the data, and where it runs."""
    taken = ("data", "data.path", "cache_dir", "data.max_length", "trainer.precision")
    return [option for option in options if option.split("=")[0] in taken]


def test_a_students_evaluation_is_that_of_its_run(options, measured, tmp_path):
    # A cache of its own: the shared one holds the teachers of other tests.
    run = distill.run([*options, "control=false", "output_dir=run", f"cache_dir={tmp_path}/cache"])
    teacher = next((tmp_path / "cache" / "teachers").glob("*[!k]"))
    report = distill.evaluate("run", measured, reference=teacher)
    assert [model.role for model in report.models] == ["teacher", "student"]
    for role in ("quality", "calibration", "fidelity", "size"):
        assert getattr(report.student, role) is not None
    assert report.student.quality["accuracy"].value == run.student.quality["accuracy"].value
    assert report.data.fingerprint == run.data.fingerprint
    assert report.student.size.to_dict() == run.student.size.to_dict()
    assert report.comparison.size_ratio == run.comparison.size_ratio
    assert report.run.directory != run.run.directory


def test_a_model_alone(measured, trained):
    report = distill.evaluate(trained, [*measured, "output_dir=here"])
    assert [model.role for model in report.models] == ["student"]
    assert report.student.name == "ready"
    assert report.student.fidelity is None
    assert report.comparison.metric == "accuracy"
    assert Path("here/report.md").is_file()
    assert Path("here/report.json").is_file()
    with pytest.raises(distill.UserError, match="holds another report"):
        distill.evaluate(trained, [*measured, "output_dir=here"])


def test_the_order_of_the_classes_is_the_datas(measured, trained, tmp_path, tokenizer):
    model = make_model(labels=("positive", "negative"))
    first = AutoModelForSequenceClassification.from_pretrained(trained)
    with torch.no_grad():
        model.load_state_dict(first.state_dict())
        model.classifier.weight.copy_(first.classifier.weight.flip(0))
        model.classifier.bias.copy_(first.classifier.bias.flip(0))
    model.save_pretrained(tmp_path / "turned")
    tokenizer.save_pretrained(tmp_path / "turned")
    one, two = (distill.evaluate(path, measured) for path in (trained, tmp_path / "turned"))
    assert one.student.quality["accuracy"].value == two.student.quality["accuracy"].value


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.limit=5"], "data.limit is about training"),
        (["task=regression", "data.label=label"], "label"),
        (["task=masked_lm"], "has no head for task=masked_lm"),
        (["labels=[a,b]"], "knows a, b, the data have negative, positive"),
        (["labels=[a,b,c]"], "labels names 3 outputs, the model has 2"),
        (["trainer.max_epochs=3"], "there is no option trainer.max_epochs"),
        (["model=nowhere/at/all"], "there is no such folder"),
        (["labels=yes"], "labels=yes: it must be a list of text or"),
    ],
)
def test_mistakes_of_an_evaluation(measured, trained, overrides, says):
    with pytest.raises(distill.UserError) as caught:
        distill.evaluate(trained, [*measured, *overrides])
    assert says in str(caught.value)
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def test_the_command(measured, trained, command, monkeypatch):
    import distill.cli.distill
    import distill.cli.evaluate

    monkeypatch.setattr("distill.cli.distill.main", distill.cli.evaluate.main)
    code, out, err = command(f"model={trained}", *measured, "output_dir=out")
    assert code == 0, err
    assert "The student" in out and "accuracy" in out
    assert "distill-evaluate model=" in Path("out/report.md").read_text()
    config = Path("out").absolute()
    code, _, err = command("--config-path", config, "--config-name", "config", "output_dir=again")
    assert code == 0, err
    first, second = (distill.load_report(folder) for folder in ("out", "again"))
    assert first.student.quality == second.student.quality
    code, out, err = command("data=files", "data.path=x")
    assert (code, err) == (2, "error: model has no value: set model=...\n")


def test_the_module_of_the_command_is_the_function():
    code = "import distill.evaluate as m, distill; assert callable(distill.evaluate); print(m)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate" in done.stdout
