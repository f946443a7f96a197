"""Speed, size and quality of exported forms, as models of the run's report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.answers.base import Window
from distill.evaluation.evaluator import EvaluatedModel, model_report
from distill.evaluation.speed import measure_speed
from distill.export.checks import FormOutputs
from distill.export.source import ExportSource
from distill.modeling.inputs import MASK, POSITIONS
from distill.predict.runtimes import OnnxRuntime, Runtime
from distill.reporting import run_report
from distill.reporting.schema import FILE_NAME, ModelReport, Report, Role, Size, Speed, load_report

TORCH = "torch"


class RuntimeModule(nn.Module):
    """A runtime that is called like a model, to be timed beside models."""

    def __init__(self, runtime: Runtime):
        super().__init__()
        self.runtime = runtime

    def forward(self, **inputs: Tensor) -> Any:
        """Return the logits of a batch."""
        batch = {name: value.numpy() for name, value in inputs.items() if name != POSITIONS}
        if isinstance(self.runtime, OnnxRuntime):
            return self.runtime.outputs(batch)
        counts = batch[MASK].sum(axis=1)
        return self.runtime.logits(
            [Window(ids[:count], ()) for ids, count in zip(batch["input_ids"], counts, strict=True)]
        )


def measure_forms(source: ExportSource, runtimes: Mapping[str, Runtime]) -> dict[str, Speed]:
    """Time forms in turn with the model in torch (``torch``), all on one thread."""
    modules = {TORCH: source.model} | {
        name: RuntimeModule(runtime) for name, runtime in runtimes.items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speeds = measure_speed(
            modules, dict.fromkeys(modules, source.examples), torch.device("cpu")
        )
    finally:
        torch.set_num_threads(threads)
    for name, runtime in runtimes.items():
        # What a runtime allocates cannot be seen from here.
        speeds[name] = replace(speeds[name], runtime=runtime.name, peak_memory_bytes=None)
    return speeds


@dataclass(frozen=True)
class MeasuredForm:
    """A form that is kept.

    Attributes:
        name: ``onnx``, ``int8`` or ``numpy``.
        outputs: what it computes for the evaluated split.
        speed: its speed.
        entry: what ``export.json`` says of it.
    """

    name: str
    outputs: FormOutputs
    speed: Speed
    entry: Mapping[str, Any]


def add_to_report(source: ExportSource, forms: list[MeasuredForm], folder: Path) -> Report | None:
    """Write the forms as models into the run's report; those of earlier exports are replaced.

    Args:
        source: the student.
        forms: all forms of a folder.
        folder: where they lie, in the run's own folder.

    Returns:
        The report; ``None``: the run has none.
    """
    if source.what != Role.STUDENT or not (source.run / FILE_NAME).is_file():
        return None
    report = load_report(source.run)
    student = report.student
    place = folder.name
    models = [
        model
        for model in report.models
        if Path(str(model.extra.get("export", {}).get("file", ""))).parent.name != place
    ]
    models += [_model(source, form, folder, student) for form in forms]
    report = replace(report, models=tuple(models))
    run_report.write(report, source.run)
    return report


def _model(
    source: ExportSource, form: MeasuredForm, folder: Path, student: ModelReport | None
) -> ModelReport:
    temperature = source.reader.temperature
    candidate = EvaluatedModel(
        f"{Role.STUDENT.value}_{form.name}",
        (student.name if student else None) or source.run.name,
        source.model,
        source.examples,
        form.outputs.reduced,
        temperature=None if temperature == 1 else temperature,
    )
    size = (student.size if student else None) or Size()
    export = {
        "file": str((folder / form.entry["file"]).relative_to(source.run)),
        "passed": form.entry["passed"],
        "neighbors": form.entry["neighbors"],
        "agreement_with_student": form.entry["agreement"],
        "times_faster_than_torch": form.entry["times_faster_than_torch"],
    }
    measured = model_report(
        candidate, source.task, replace(size, bytes=form.entry["bytes"]), form.speed, None
    )
    return replace(measured, extra={"export": export})


def cpu_ms(speed: Speed) -> dict[str, float | None]:
    """Return the processor time of one example."""
    assert speed.cpu_ms is not None
    return {"p50": speed.cpu_ms.p50, "p95": speed.cpu_ms.p95}


def agreement(expected: FormOutputs, found: FormOutputs) -> float | None:
    """Return the fraction of equal decisions; ``None`` for numbers."""
    if not len(expected.decisions):
        return None
    return float(np.mean(expected.decisions == found.decisions))
