"""Export a model of a run, check it on the run's test texts and refuse it where it differs."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill import __version__
from distill.config import legacy
from distill.config.composition import set_up_hydra
from distill.config.trust import check_targets
from distill.core.errors import UserError
from distill.data.prepare import PreparedData, prepare_data
from distill.export.formats import EXPORT_FORMATS, ExportFormat, ExportSource, Text
from distill.modeling.loading import call_model, check_max_length, check_whole, weights_hash
from distill.pipeline.run_identity import read_config
from distill.tasks.base import Task

# Heads with one answer per text.
HEADS = ("ForSequenceClassification",)
# Maximum number of test texts that an export is checked on, and that it is timed on.
CHECKED, TIMED = 2000, 50


class ExportRefusedError(Exception):
    """An export that does not give the model's answers."""


@dataclass(frozen=True)
class ExportCheck:
    """How an export compares with the model in torch.

    Attributes:
        texts: number of texts of the test split.
        largest_difference: of a logit.
        changed_answers: number of texts whose largest logit is another one.
        torch_cpu_ms: processor time of one text in torch, tokenized and answered, median.
        export_cpu_ms: the same of the export.
    """

    texts: int
    largest_difference: float
    changed_answers: int
    torch_cpu_ms: float
    export_cpu_ms: float


def export_model(
    run: Path, what: str, format_name: str, output: Path | None, allow_code: Sequence[str] = ()
) -> Path:
    """Export a model of a run.

    Args:
        run: the run's folder.
        what: ``student`` or ``control``.
        format_name: name of the format.
        output: the new folder; ``None``: one below the model's, named after the format.
        allow_code: packages whose classes the run's config may name beside this one's.

    Returns:
        The folder.

    Raises:
        UserError: if there is no such run or model, or the format cannot hold it.
        ExportRefusedError: if the export does not give the model's answers; nothing is left.
    """
    format_ = EXPORT_FORMATS[format_name]
    output = output or run / what / format_name
    if output.exists():
        raise UserError(f"{output} exists: name another folder with -o, or remove it")
    config = _run_config(run, allow_code)
    task: Task = instantiate(config.task, _convert_="all")
    if not set(HEADS) & set(task.head.architectures):
        raise UserError(f"task={task.name} cannot be exported yet: there is one answer per token")
    source, data = _load(run, what, task, config)
    if (obstacle := format_.obstacle(source)) is not None:
        raise UserError(obstacle)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        format_.write(source, partial)
        check = check_export(source, format_, partial, texts_of(data, CHECKED))
        record = {
            "distill": __version__,
            "run": run.name,
            "model": what,
            "weights": weights_hash(source.model),
            "format": format_name,
            "check": asdict(check),
        }
        text = json.dumps(record, indent=2) + "\n"
        (partial / "export.json").write_text(text, encoding="utf-8")
        partial.replace(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output


def check_export(
    source: ExportSource, format_: ExportFormat, folder: Path, texts: Sequence[Text]
) -> ExportCheck:
    """Compare an export with its model, and time both in turn.

    Raises:
        ExportRefusedError: if a logit differs by more than the format's tolerance, relative where
            it is above 1.
    """
    predict = format_.load(folder)
    reference = torch_predictor(source)
    expected = np.concatenate([reference([text]) for text in texts])
    found = predict(texts)
    difference = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    check = ExportCheck(
        len(texts),
        float(difference.max()),
        int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
        *_median_cpu_ms([reference, predict], texts[:TIMED]),
    )
    if not check.largest_difference <= format_.tolerance:
        raise ExportRefusedError(
            f"a logit of the export differs from the model's by {check.largest_difference:.2g}, at "
            f"most {format_.tolerance:g} is allowed; {check.changed_answers} of {check.texts} "
            "answers change"
        )
    return check


def torch_predictor(source: ExportSource) -> Callable[[Sequence[Text]], np.ndarray]:
    """Return the logits of texts, one at a time, by the model itself."""

    def predict(texts: Sequence[Text]) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for text in texts:
                first, second = (text, None) if isinstance(text, str) else text
                inputs = source.processor(
                    first, second, truncation=True, max_length=source.max_length,
                    return_tensors="pt",
                )  # fmt: skip
                rows.append(call_model(source.model, inputs).logits.float().numpy())
        return np.concatenate(rows)

    return predict


def texts_of(data: PreparedData, limit: int) -> list[Text]:
    """Return texts or pairs of the test split, at most ``limit``, spread evenly."""
    rows = data.splits["test"]
    indices = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows)), dtype=int))
    rows = rows.select(indices.tolist())
    if "text_pair" in rows.column_names:
        return list(zip(rows["text"], rows["text_pair"], strict=True))
    return list(rows["text"])


def _median_cpu_ms(
    predictors: Sequence[Callable[[Sequence[Text]], np.ndarray]], texts: Sequence[Text]
) -> list[float]:
    """Return each one's processor time of one text: the fastest of its rounds, median of texts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = np.empty((5, len(texts), len(predictors)))
    for turn in range(-1, len(times)):  # the first round warms up
        for index, text in enumerate(texts):
            for place, predict in enumerate(predictors):
                start = time.thread_time()
                predict([text])
                if turn >= 0:
                    times[turn, index, place] = time.thread_time() - start
    torch.set_num_threads(threads)
    medians: list[float] = (np.median(times.min(axis=0), axis=0) * 1e3).tolist()
    return medians


def _run_config(run: Path, allow_code: Sequence[str]) -> DictConfig:
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run: config.yaml is missing")
    set_up_hydra()
    config = legacy.update_config(read_config(run))
    check_targets("", OmegaConf.to_container(config, resolve=True), allow_code)
    return config


def _load(
    run: Path, what: str, task: Task, config: DictConfig
) -> tuple[ExportSource, PreparedData]:
    folder = run / what
    if not (folder / "config.json").is_file():
        raise UserError(f"{run} has no {what}: {folder} is missing")
    check_whole(folder, what)
    source: Any = instantiate(config.data, _convert_="all")
    data = prepare_data(source, task.schema, Path(config.cache_dir).expanduser())
    processor = task.preprocessor.load_processor(str(folder), f"the {what}")
    model = task.head.load_trained(folder, data.label_names).eval()
    own: int | None = config.student.get("max_length")
    max_length = check_max_length(model.config, own or source.max_length)
    return ExportSource(model, processor, data.label_names, max_length), data
