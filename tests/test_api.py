"""The Python API: what a script or a notebook does with it."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.singleton import Singleton

import distill


@pytest.fixture
def options(small, tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distill.evaluation.speed.EXAMPLES", 8)
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
        ("resume=runs/x", "resume continues a run with its own settings"),
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
    report = distill.run(["resume=stopped"])
    assert report.run.name == "stopped"
    assert report.control is None
