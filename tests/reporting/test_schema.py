import json
import subprocess
import sys

import pytest

from distill.core.errors import UserError
from distill.reporting.record import ReportError
from distill.reporting.schema import (
    Calibration,
    Difference,
    Fidelity,
    MetricValue,
    ModelReport,
    Report,
    Role,
    load_report,
)
from tests.reporting.example_reports import model, report, typed_report, write_run


def file_text(content) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        report(overrides=["student.layers=[0,2,4]", "data.text=Größe"]),
        report(control=None, gain=()),
        report(task="regression", metric="pearson"),
    ],
)
def test_a_report_is_written_as_it_was_read(tmp_path, content):
    """Keys, their order, and whole numbers."""
    (tmp_path / "report.json").write_text(file_text(content), encoding="utf-8")
    load_report(tmp_path).write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == file_text(content)


def test_measures_of_any_task_are_kept_in_order():
    content = report()
    content["models"][1]["fidelity"] = {"agreement": None, "kl_divergence": None, "correlation": 1}
    content["models"][1]["per_class"] = {
        "torch": {"precision": None, "recall": 0.5, "f1": 0.25, "support": 4}
    }
    student = Report.from_dict(content).student
    assert student.fidelity.correlation == 1
    assert student.fidelity.agreement is None
    assert student.per_class["torch"].support == 4
    assert Report.from_dict(content).to_dict() == content


def test_attributes():
    typed = typed_report()
    assert typed.student.quality["accuracy"].value == 0.871
    assert typed.student.metric("accuracy") == MetricValue(0.871, 0.855, 0.887)
    assert typed.student.metric("f1").value is None
    assert typed.teacher.name == "minilm"
    assert typed.teacher.is_teacher
    assert typed.control.role == Role.CONTROL == "control"
    assert typed.comparison.retention == pytest.approx(0.871 / 0.881)
    assert typed.gain_over_control == Difference(
        0.003, -0.009, 0.015, 0.62, seeds=1, covers=("examples",)
    )
    assert typed.main_metric == "accuracy"
    assert typed.student.calibration.expected_calibration_error == 0.041
    assert typed.student.scores["agreement"] == 0.912
    assert typed.data.evaluated_examples == 1_616
    assert typed.student.speed.latency_ms.p50 == 5.4


def test_unknown_keys_are_kept():
    content = report()
    content["others"] = [{"seed": 2, "empty": {}}]
    content["models"][1]["size"]["sparsity"] = 0.5
    typed = Report.from_dict(content)
    assert typed.student.size.extra == {"sparsity": 0.5}
    assert typed.to_dict() == content


def test_keys_that_an_older_report_lacks_are_none():
    whole = report()
    content = {key: whole[key] for key in ("schema", "run", "task", "data")}
    content["run"] = {"name": "old"}
    content["data"] = {"name": "sst2"}
    content["models"] = [{"role": "student", "size": None}]
    typed = Report.from_dict(content)
    assert typed.student.speed is None
    assert typed.student.quality == {}
    assert typed.comparison is None
    assert typed.main_metric is None
    assert typed.gain_over_control.value is None
    assert typed.run.seed is None
    assert typed.run.overrides == ()
    assert typed.to_dict()["models"][0].keys() >= {"speed", "quality", "fidelity"}
    assert str(typed).startswith("old\n")


def test_numbers_that_do_not_exist_are_none_and_null(tmp_path):
    content = report()
    content["models"][1]["quality"]["accuracy"]["value"] = float("nan")
    content["models"][1]["fidelity"]["kl_divergence"] = float("inf")
    content["comparison"]["retention"] = float("nan")
    content["extra"] = [float("-inf")]
    typed = Report.from_dict(content)
    assert typed.student.quality["accuracy"].value is None
    assert typed.student.fidelity.kl_divergence is None
    assert MetricValue(float("nan")).value is None
    assert (
        Calibration({"expected_calibration_error": float("nan")})["expected_calibration_error"]
        is None
    )
    typed.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert written["comparison"]["retention"] is None
    assert written["extra"] == [None]


def test_objects_that_were_built_and_not_read():
    built = ModelReport(
        role=Role.STUDENT,
        name="half",
        quality={"accuracy": MetricValue(0.5)},
        fidelity=Fidelity({"agreement": 1.0}),
    )
    written = built.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert written["role"] == "student"
    assert written["per_class"] is None
    assert written["fidelity"] == {"agreement": 1.0}
    assert ModelReport.from_dict(written).to_dict() == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1', "is not JSON"),
        ("[1]", "is a list, not an object"),
        ("null", "is null"),
        ("{}", "lacks schema"),
        ('{"schema": 2}', "has schema 2, expected 1"),
        ('{"schema": 1, "task": "t"}', "lacks run"),
        (json.dumps(report() | {"models": {}}), "has a dict as models, not a list"),
        (json.dumps(report() | {"run": 3}), "has a int as run, not an object"),
        (json.dumps(report() | {"models": [{"name": "half"}]}), r"lacks models\[0\].role"),
    ],
)
def test_what_is_no_report(tmp_path, text, message):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ReportError, match=message) as found:
        load_report(tmp_path)
    assert isinstance(found.value, UserError)
    assert str(tmp_path) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_folder_without_a_report(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*report\.json"):
        load_report(tmp_path)


def test_text_in_the_place_of_a_number_is_no_number(tmp_path):
    content = report()
    content["models"][1]["size"]["parameters"] = "many"
    content["models"][1]["size"]["bytes"] = True
    size = load_report(write_run(tmp_path / "run", content)).student.size
    assert (size.parameters, size.bytes) == (None, None)


def test_a_model_without_anything():
    lone = report()
    lone["models"] = [model("model", "half", 0.871)]
    typed = Report.from_dict(lone)
    assert typed.teacher is typed.student is typed.control is None
    assert typed.model("model").name == "half"


def test_reporting_imports_no_torch():
    code = (
        "import importlib, pkgutil, sys, distill.reporting, distill.cli.report\n"
        "for module in pkgutil.walk_packages(distill.reporting.__path__, 'distill.reporting.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'torch', 'transformers', 'pytorch_lightning', 'tensorflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
