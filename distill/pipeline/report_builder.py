"""Build the report of a run from its results, and write everything that a run leaves behind."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytorch_lightning
import torch
import transformers
from omegaconf import DictConfig

from distill import __version__
from distill.core.hardware import Hardware, processor_field
from distill.data.prepare import UNLABELED, PreparedData
from distill.data.sources.hub import HubSource
from distill.evaluation.evaluator import Measurements
from distill.objectives.schedules import schedule_bounds
from distill.pipeline.components import RunComponents
from distill.pipeline.datamodule import DistillationDataModule
from distill.pipeline.trained_model import TrainedModel
from distill.reporting import run_report, tensorboard
from distill.reporting.card import Provenance, write_model_card
from distill.reporting.schema import (
    EACH_CONTROL,
    SCHEMA,
    DataInfo,
    Environment,
    Report,
    Reused,
    Role,
    RunInfo,
    Timing,
    Training,
)
from distill.reporting.tensorboard import Hyperparameter
from distill.student.base import Student
from distill.teacher.config import TeacherConfig
from distill.teacher.prepare import Teacher

# Hub ids and licenses of models that a package carries, ``package:NAME``.
PACKAGED_MODELS = {"package:minilm": ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")}


def run_info(config: DictConfig, started: datetime) -> RunInfo:
    """Return name, folder, time and command line of a run that ends now."""
    folder = Path(config.output_dir)
    return RunInfo(
        name=folder.name,
        directory=str(folder),
        started=started.isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - started).total_seconds(),
        seed=config.get("seed"),
        overrides=tuple(config.get("overrides") or ()),
    )


def build_report(
    run: RunInfo,
    components: RunComponents,
    data: PreparedData,
    teacher: Teacher,
    datamodule: DistillationDataModule,
    trained: Mapping[str, TrainedModel],
    measurements: Measurements,
    repeated: Sequence[Mapping[str, TrainedModel]] = (),
) -> Report:
    """Return the report of a run.

    Args:
        run: Name, folder, time and command line.
        components: What the run was configured with.
        data: The prepared data.
        teacher: The prepared teacher.
        datamodule: The examples and the teacher's logits.
        trained: The trained models by role.
        measurements: Measurements of all models.
        repeated: Student and control of further seeds, by role.
    """
    controls = [one for of_seed in (trained, *repeated) for one in _trained_controls(of_seed)]
    return Report(
        schema=SCHEMA,
        run=run,
        task=components.task.name,
        data=DataInfo(
            name=data.name,
            fingerprint=components.task.evaluator.fingerprint(data.fingerprint, datamodule.test),
            examples=data.sizes,
            evaluated_on=data.evaluated_on,
            labels=tuple(data.label_names),
            notes=(*data.notes, *datamodule.notes, *measurements.baselines.notes),
        ),
        environment=describe_environment(
            components.trainer.hardware, components.trainer.launcher.world_size
        ),
        models=tuple(measurements.models),
        baselines=tuple(measurements.baselines.models),
        comparison=measurements.comparison,
        timing=Timing(
            teacher_fine_tune=teacher.seconds,
            teacher_outputs=datamodule.seconds,
            student=sum(of_seed[Role.STUDENT].seconds for of_seed in (trained, *repeated)),
            control=sum(one.seconds for one in controls),
            measure=measurements.seconds,
            baselines=measurements.baselines.seconds,
        ),
        reused=Reused(
            teacher=teacher.reused,
            teacher_outputs=datamodule.reused,
            control=bool(controls) and all(one.reused for one in controls),
            baselines=measurements.baselines.reused,
        ),
        training={role: Training.from_dict(asdict(one.result)) for role, one in trained.items()},
        repeats=tuple(measurements.repeats),
    )


def _trained_controls(trained: Mapping[str, TrainedModel]) -> list[TrainedModel]:
    """Return the controls of one seed; where there are two, one of them is the control, too."""
    each = [trained[role] for role in EACH_CONTROL if role in trained]
    return each or [one for role, one in trained.items() if role == Role.CONTROL]


def hyperparameters(
    components: RunComponents, student: Student, data: PreparedData
) -> dict[str, Hyperparameter]:
    """Return the few settings that runs are compared by, whatever their objective."""
    terms: dict[str, Hyperparameter] = {}
    for name, term in components.objective.active_terms.items():
        for key, value in term.settings.items():
            if callable(value):
                terms[f"{name}.{key}.schedule"] = type(value).__name__.lower()
                value = max(schedule_bounds(value))
            if isinstance(value, int | float) and not isinstance(value, bool):
                terms[f"{name}.{key}"] = value
    return {
        "data": components.source.name,
        **({UNLABELED: data.sizes[UNLABELED]} if UNLABELED in data.sizes else {}),
        "teacher": components.teacher.name,
        "student": student.name,
        "objective": components.objective.name,
        **terms,
        "learning_rate": components.optimizer_for(components.stages[-1]).learning_rate_for(
            student.model
        ),
        "epochs": components.max_epochs,
        "batch_size": components.source.batch_size,
        "seed": components.seed,
    }


def provenance(components: RunComponents, student: Student) -> Provenance:
    """Return where student and control come from, as far as the hub knows it."""
    teacher, source = components.teacher, components.source
    found: list[str] = []
    license = None
    members = [teacher] if isinstance(teacher, TeacherConfig) else teacher.members.values()
    for path in (member.path for member in members):
        if path in PACKAGED_MODELS:
            name, license = PACKAGED_MODELS[path]
            found.append(name)
        elif path.count("/") <= 1 and not Path(path).expanduser().exists():
            found.append(path)
    return Provenance(
        origin=student.origin,
        base_models=tuple(dict.fromkeys(found)),
        dataset=source.path if isinstance(source, HubSource) else None,
        license=license if len(set(found)) == 1 else None,
        objective=_describe_objective(components),
    )


def _describe_objective(components: RunComponents) -> str:
    """Return the objective and its terms with their settings that are numbers, in words."""
    terms = []
    for name, term in components.objective.active_terms.items():
        numbers = [
            f"{key} {value:g}"
            for key, value in term.settings.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        terms.append(f"{name} ({', '.join(numbers)})" if numbers else name)
    return f"{components.objective.name}: {' + '.join(terms)}"


def write_report(
    report: Report,
    folder: Path,
    provenance: Provenance,
    hyperparameters: Mapping[str, Hyperparameter],
) -> None:
    """Write model cards, the report and TensorBoard's final entries."""
    for model in report.models:
        if (folder / model.role).is_dir():
            write_model_card(folder / model.role, report, model, provenance)

    def write_final() -> None:
        markdown = (folder / "report.md").read_text(encoding="utf-8")
        tensorboard.write_final(folder, report, hyperparameters, markdown, folder / "tradeoff.png")

    run_report.write(report, folder, write_final)


def describe_environment(hardware: Hardware, processes: int = 1) -> Environment:
    """Return versions and hardware of a run in a number of processes."""
    return Environment(
        distill=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        pytorch_lightning=pytorch_lightning.__version__,
        processor=_processor_name(hardware.device),
        threads=torch.get_num_threads(),
        processes=processes,
        accelerator=hardware.accelerator,
        precision=hardware.precision,
    )


def _processor_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = processor_field("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} processors"
