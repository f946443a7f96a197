"""``distill-evaluate`` on exported models: the same answers, measured in their own runtime."""

import shutil
from pathlib import Path

import pytest

import distill
from distill.export.export import ExportOptions, export_model
from tests.predict.runs import MAX_LENGTH, make_run


@pytest.fixture(scope="module", params=[("half", "onnx"), ("static", "numpy")], ids="-".join)
def exported_run(request, tmp_path_factory):
    """A run whose student is exported in its own folder, and the name of the form."""
    student, form = request.param
    run = make_run(tmp_path_factory.mktemp(student), student=student)
    export_model(run.folder, ExportOptions(format=form))
    return run.folder, form


@pytest.fixture
def evaluate(exported_run, tmp_path, monkeypatch):
    """Evaluate on the run's data: ``evaluate(model, *overrides)``."""
    monkeypatch.chdir(tmp_path)
    data = exported_run[0].parent / "data"
    shared = [
        "data=files", f"data.path={data}", f"data.max_length={MAX_LENGTH}",
        f"cache_dir={tmp_path}/cache", "baselines=[majority]",
    ]  # fmt: skip

    def evaluate(model: Path, *overrides: str, **named):
        return distill.evaluate(model, [*shared, *overrides], **named)

    return evaluate


def test_an_exported_model_is_measured_like_one_in_torch(exported_run, evaluate):
    run, form = exported_run
    in_torch = evaluate(run, f"output_dir={form}-torch").student
    report = evaluate(run / "student" / form, reference=run / "student")
    found = report.student
    assert found.quality == in_torch.quality
    assert found.calibration == pytest.approx(in_torch.calibration, abs=1e-4)
    assert found.fidelity["agreement"] == 1.0
    assert form in found.speed.runtime and "torch" in in_torch.speed.runtime
    assert found.speed.cpu_ms.p50 > 0 and found.speed.peak_memory_bytes is None
    assert {found.speed.threads, report.model("teacher").speed.threads} == {1}
    assert found.size.parameters == in_torch.size.parameters
    (file,) = [*(run / "student" / form).glob("*.onnx"), *(run / "student" / form).glob("*.npz")]
    assert found.size.bytes == file.stat().st_size
    assert "majority" in {model.role for model in report.baselines}


def test_a_form_is_named_and_mistakes_are_one_line(exported_run, evaluate, tmp_path):
    run, form = exported_run
    assert evaluate(run, f"form={form}").student.speed.runtime.endswith(form)
    with pytest.raises(distill.UserError, match=f"has no such form .exported: {form}."):
        evaluate(run, "form=int8")
    with pytest.raises(distill.UserError, match="form=onnx: model=google/bert is no folder"):
        evaluate("google/bert", "form=onnx")
    alone = tmp_path / "alone" / form
    shutil.copytree(run / "student" / form, alone)
    with pytest.raises(distill.UserError, match="evaluate it where it was exported"):
        evaluate(alone)


def test_a_file_that_was_changed_is_refused(exported_run, evaluate, tmp_path):
    run, form = exported_run
    shutil.copytree(run / "student", tmp_path / "student")
    folder = tmp_path / "student" / form
    (file,) = [*folder.glob("*.onnx"), *folder.glob("*.npz")]
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(distill.UserError, match="is not the file that was checked"):
        evaluate(folder)
