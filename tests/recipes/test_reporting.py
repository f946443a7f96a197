"""Recipes: a report format and a measured quantity."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli.report import main
from distill.reporting.formats import base
from tests.reporting.example_reports import sweep

ROOT = Path(__file__).parents[2]


@pytest.fixture
def latex(monkeypatch):
    """The toy's format, registered for one test as an entry point would."""
    known = dict(base._REGISTRY)
    sys.modules.pop("tests.recipes.format.latex", None)
    import tests.recipes.format.latex  # noqa: F401

    yield
    base._REGISTRY.clear()
    base._REGISTRY.update(known)


def test_format(latex, tmp_path, capsys, monkeypatch):
    sweep(tmp_path / "runs")
    out = tmp_path / "table.tex"
    monkeypatch.setattr(sys, "argv", ["distill-report", str(tmp_path / "runs"), "-o", str(out)])
    try:
        main()
    except SystemExit as end:
        assert not end.code
    text = out.read_text()
    assert text.startswith("\\begin{tabular}") and text.count("\\\\") >= 2


# File -> (what stands there, what the recipe puts before it).
QUANTITY = {
    "distill/reporting/schema.py": (
        "    sequence_length: int | None = None\n",
        "    layers: int | None = None\n",
    ),
    "distill/evaluation/evaluator.py": (
        "        sequence_length=length,\n",
        '        layers=getattr(model.config, "num_hidden_layers", None),\n',
    ),
    "distill/reporting/quantities.py": (
        '    Quantity(\n        name="latency_ms",\n',
        '    Quantity(name="layers", kind="size", reader=_size("layers"), format=text.short, '
        'column="layers", drop_order=5, row="layers", higher_is_better=False),\n',
    ),
}


@pytest.mark.slow
def test_measured_quantity(tmp_path, corpus, trained):
    """Three files are changed in a copy of the package, and the quantity is in every place."""
    for folder in ("distill", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for file, (place, added) in QUANTITY.items():
        text = (tmp_path / file).read_text()
        assert text.count(place) == 1, file
        (tmp_path / file).write_text(text.replace(place, added + place))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=tmp_path, env=environment, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout

    python(
        "distill", "data=files", f"data.path={corpus}", f"teacher.path={trained}",
        f"cache_dir={tmp_path / 'cache'}", "output_dir=runs/one", "student=half", "control=false",
        "data.max_length=24", "trainer.max_epochs=1", "trainer.accelerator=cpu",
    )  # fmt: skip
    report = json.loads((tmp_path / "runs/one/report.json").read_text())
    layers = {model["role"]: model["size"]["layers"] for model in report["models"]}
    assert layers == {"teacher": 4, "student": 2}
    assert "| layers" in (tmp_path / "runs/one/report.md").read_text()
    table = python("distill.report", "runs")
    assert any({"run", "layers"} <= set(line.split()) for line in table.splitlines())


def test_the_recipes_take_as_many_files_as_contributing_says():
    """The table of CONTRIBUTING.md against the toys' folders."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    files = {row[1].strip(): row[2].strip() for row in rows if "files" not in row[2]}
    recipes = Path(__file__).parent
    folders = {
        "loss term": recipes / "loss",
        "task": recipes / "task_image",
        "student": recipes / "student",
        "data source": recipes / "source",
        "report format": recipes / "format",
    }
    for component, folder in folders.items():
        toys = [
            file
            for file in folder.rglob("*")
            if file.suffix in (".py", ".yaml") and file.name != "__init__.py"
        ]
        assert int(files[component].split(":")[0]) == len(toys) + 1, component  # and a test
    assert int(files["measured quantity"].split(":")[0]) == len(QUANTITY)
