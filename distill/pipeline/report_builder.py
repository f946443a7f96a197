"""From what a run measured to everything it leaves behind."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning
import torch
import transformers
from omegaconf import DictConfig

from distill import __version__
from distill.data.prepare import PreparedData
from distill.objectives.schedules import schedule_bounds
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.reporting import card, run, tensorboard
from distill.student.base import Student
from distill.teacher.prepare import Teacher


def build_report(
    config: DictConfig,
    components: RunComponents,
    data: PreparedData,
    teacher: Teacher,
    datamodule: DistillationDataModule,
    models: Sequence[dict[str, Any]],
    comparison: Mapping[str, Any],
    trained: Mapping[str, Any],
    started: datetime,
    measure_seconds: float,
) -> dict[str, Any]:
    """The content of report.json, schema 1."""
    folder = Path(config.output_dir)
    return {
        "schema": 1,
        "run": {
            "name": folder.name,
            "directory": str(folder),
            "started": started.isoformat(timespec="seconds"),
            "seconds": (datetime.now(UTC) - started).total_seconds(),
            "seed": components.seed,
            "overrides": list(config.get("overrides") or []),
        },
        "task": components.task.name,
        "data": {
            "name": data.name,
            "fingerprint": components.task.evaluator.fingerprint(data.fingerprint, datamodule.test),
            "examples": data.sizes,
            "evaluated_on": data.evaluated_on,
            "labels": data.label_names,
            "notes": [*data.notes, *datamodule.notes],
        },
        "environment": {
            "distill": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "pytorch_lightning": pytorch_lightning.__version__,
            "processor": _processor_name(components.trainer.hardware.device),
            "threads": torch.get_num_threads(),
            "processes": components.trainer.launcher.world_size,
            "accelerator": components.trainer.hardware.accelerator,
            "precision": components.trainer.hardware.precision,
        },
        "models": list(models),
        "comparison": dict(comparison),
        "timing": {
            "teacher_fine_tune": teacher.seconds,
            "teacher_outputs": datamodule.seconds,
            "student": trained["student"].seconds,
            "control": trained["control"].seconds if "control" in trained else 0.0,
            "measure": measure_seconds,
        },
        "reused": {
            "teacher": teacher.reused,
            "teacher_outputs": datamodule.reused,
            "control": "control" in trained and trained["control"].reused,
        },
        "training": {role: asdict(model.result) for role, model in trained.items()},
    }


def hyperparameters(
    config: DictConfig, components: RunComponents, student: Student, data: PreparedData
) -> dict[str, Any]:
    """The few settings that runs are compared by, whatever their objective."""
    terms: dict[str, Any] = {}
    for name, term in components.objective.terms.items():
        for key, value in term.settings.items():
            if callable(value):
                terms[f"{name}.{key}.schedule"] = type(value).__name__.lower()
                value = max(schedule_bounds(value))
            if isinstance(value, int | float) and not isinstance(value, bool):
                terms[f"{name}.{key}"] = value
    return {
        "data": components.source.name,
        **({"unlabelled": data.sizes["unlabelled"]} if "unlabelled" in data.sizes else {}),
        "teacher": components.teacher.name,
        "student": student.name,
        "objective": components.objective.name,
        **terms,
        "learning_rate": components.optimizer.learning_rate_for(student.model),
        "epochs": components.max_epochs,
        "batch_size": components.source.batch_size,
        "seed": components.seed,
    }


def write_report(
    report: dict[str, Any], folder: Path, student: Student, settings: dict[str, Any]
) -> str:
    """Write model cards, the report and TensorBoard's final entries; returns the short form."""
    for model in report["models"]:
        if (folder / model["role"]).is_dir():
            card.write(folder / model["role"], report, model, student.origin)
    text = run.write(report, folder)
    tensorboard.write_final(
        folder,
        report,
        settings,
        (folder / "report.md").read_text(encoding="utf-8"),
        folder / "tradeoff.png",
    )
    return text


def _processor_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} processors"
