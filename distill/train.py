"""The main flow, on one page: teacher, its outputs, student, control, measures, report."""

import copy
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from transformers import PreTrainedModel

from distill.data.prepare import prepare
from distill.fit import Fitted
from distill.inference import collect_logits
from distill.job import Job
from distill.measure.models import Measured, compare, measure
from distill.module import DistillationModule
from distill.pairing import Pairing
from distill.reporting import assemble, tensorboard
from distill.runfolder import RunFolder
from distill.student.base import Student
from distill.teacher.ready import Teacher, ready

log = logging.getLogger(__name__)


def run(config: DictConfig) -> str:
    """Distil once, and write everything into ``config.output_dir``.

    Args:
        config: composed and checked.

    Returns:
        The report's short form, for a terminal.

    Raises:
        UserError: for what the user can mend, before any training.
    """
    started = datetime.now(UTC)
    job = Job.from_config(config)
    data = prepare(job.source, job.task, job.cache_dir)
    log.info("data: %s, %s, %d classes", data.name, data.sizes, len(data.label_names))
    for note in data.notes:
        log.info("data: %s", note)
    folder = RunFolder(Path(config.output_dir))
    folder.write_config(config)

    logger = tensorboard.TensorBoardLogger(folder.path)

    teacher = ready(
        job.teacher, data, job.task, job.fitter, job.source.max_length, job.cache_dir, logger
    )
    torch.manual_seed(job.seed)
    student = job.student.build(teacher, job.task, data.label_names, job.cache_dir)
    pairing = Pairing(job, data, teacher, student)

    measured = [pairing.teacher]
    fitted: dict[str, Fitted] = {}
    for role in job.roles:
        model, fitted[role] = train_one(role, job, pairing, teacher, student, folder, logger)
        logits = collect_logits(model, pairing.test, job.fitter.hardware)
        measured.append(Measured(role, student.name, model, pairing.test, logits))

    log.info("measuring %d models on %d examples", len(measured), len(pairing.test))
    clock = time.perf_counter()
    labels = np.asarray(data.splits["test"]["label"])
    models = measure(measured, labels, job.task, job.fitter.hardware.device)
    comparison = compare(models, measured, labels, job.task)
    report = assemble.report(
        config, job, data, teacher, pairing, models, comparison, fitted, started,
        measure_seconds=time.perf_counter() - clock,
    )  # fmt: skip
    return assemble.write(
        report, folder.path, student, assemble.hyperparameters(config, job, student)
    )


def train_one(
    role: str,
    job: Job,
    pairing: Pairing,
    teacher: Teacher,
    student: Student,
    folder: RunFolder,
    logger: tensorboard.TensorBoardLogger,
) -> tuple[PreTrainedModel, Fitted]:
    """Train the student, or the same student without the teacher, and save it.

    Both start from the same weights and see the same batches in the same order with the same
    dropout; they differ in the objective alone.
    """
    model = copy.deepcopy(student.model)
    fitted = folder.finished(role)
    if fitted is not None:
        log.info("%s: trained before it was interrupted", role)
        return type(model).from_pretrained(folder.path / role, dtype=torch.float32), fitted
    alone = role == "control"
    module = DistillationModule(
        model,
        job.objective.without_teacher(job.task) if alone else job.objective,
        job.task,
        job.optimizer,
        teacher=teacher.model if job.live and not alone else None,
        prefix="control/" if alone else "",
    )
    batches = pairing.train_alone if alone else pairing.train
    fitted = job.fitter.fit(
        module,
        batches.loader(job.source.batch_size, job.seed),
        pairing.validation.loader(job.source.batch_size, None),
        folder.checkpoints(role),
        job.seed,
        logger=logger,
        what=role,
    )
    folder.save(role, model, student.tokenizer, fitted)
    return model, fitted
