"""Saved models in torch as a predictor takes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel

from distill.answers.base import AnswerReader, Window, pad
from distill.answers.tokenizer import TextTokenizer, TokenizerSettings
from distill.config import legacy
from distill.config.composition import set_up_hydra
from distill.config.trust import check_targets
from distill.core.errors import UserError
from distill.core.third_party_logging import silence_third_party_logging
from distill.data.prepare import prepare_data
from distill.data.schema import LABEL
from distill.modeling import loading
from distill.modeling.families import output_names
from distill.modeling.forward import forward_at_positions
from distill.modeling.inputs import POSITIONS
from distill.modeling.packed_linear import pack_linears
from distill.pipeline.run_identity import read_config
from distill.predict.runtimes import Runtime
from distill.reporting.schema import FILE_NAME
from distill.tasks.base import Task
from distill.tasks.masked_lm import MaskedLM
from distill.tasks.multi_label import MultiLabel
from distill.tasks.question_answering import QuestionAnswering
from distill.tasks.question_answering.evaluator import has_unanswerable
from distill.tasks.regression import OUTPUT_NAME, Regression
from distill.tasks.sequence_classification import SequenceClassification
from distill.tasks.token_classification import TokenClassification
from distill.tasks.token_classification.preprocessor import needs_leading_space

SCALED = f"{OUTPUT_NAME} / "

DEFAULT_LENGTH = 512
"""Maximum number of tokens of a saved model that belongs to no run, if it can read as many."""


class TorchRuntime(Runtime):
    """A model in torch.

    Args:
        model: the model.
        settings: how examples are padded.
    """

    name = "torch cpu"

    def __init__(self, model: PreTrainedModel, settings: TokenizerSettings):
        self.model, self.settings = model.eval(), settings
        pack_linears(model)

    def logits(self, windows: Sequence[Window]) -> list[np.ndarray]:
        """Run a batch."""
        read = [window for window in windows if window.positions is None or window.positions]
        rows = iter(self._rows(read) if read else ())
        none = np.zeros((0, 1), np.float32)
        return [
            next(rows) if window.positions is None or window.positions else none
            for window in windows
        ]

    def _rows(self, windows: Sequence[Window]) -> list[np.ndarray]:
        inputs = {
            name: torch.from_numpy(value) for name, value in pad(windows, self.settings).items()
        }
        counts = None
        if windows[0].positions is not None:
            positions = [list(window.positions or ()) for window in windows]
            counts = [len(row) for row in positions]
            padded = np.full((len(windows), max(counts)), -1)
            for index, row in enumerate(positions):
                padded[index, : len(row)] = row
            inputs[POSITIONS] = torch.from_numpy(padded)
        with torch.inference_mode():
            logits = forward_at_positions(self.model, inputs).logits.float().numpy()
        return list(logits) if counts is None else np.split(logits, np.cumsum(counts)[:-1])


def open_saved(
    folder: Path, threads: int | None
) -> tuple[AnswerReader, TextTokenizer, Runtime, Path]:
    """Return reader, tokenizer and runtime of a saved model, and its weights' file.

    Args:
        folder: of the model; with its run's ``config.yaml`` above it, or by itself.
        threads: number of torch's threads; ``None``: as it is.

    Raises:
        UserError: if it cannot be loaded.
    """
    silence_third_party_logging()
    if threads:
        torch.set_num_threads(threads)
    loading.resolve_model_path(str(folder), "model")
    loading.check_whole(folder, folder.name)
    config = loading.load_config(str(folder), str(folder))
    run = find_run_config(folder)
    task = run_task(run) if run is not None else _task_of(config, folder)
    names = list(output_names(config).values())
    task.schema.set_label_names(names)
    processor = task.preprocessor.load_processor(str(folder), str(folder))
    model = task.head.load_trained(folder, names)
    limit = loading.max_positions(config)
    length = model_max_length(run, folder.name) if run is not None else DEFAULT_LENGTH
    settings = tokenizer_settings(processor, model, length if limit is None else min(length, limit))
    reader = task.answer_reader(
        names,
        columns=input_columns(task, run),
        temperature=temperature_of(folder),
        **({"may_be_empty": _may_be_empty(task, run)} if task.name == "question_answering" else {}),
    )
    tokenizer = TextTokenizer(processor.backend_tokenizer.to_str(), settings)
    return reader, tokenizer, TorchRuntime(model, settings), loading.weight_files(str(folder))[0]


def find_run_config(folder: Path) -> DictConfig | None:
    """Return the config of the run that a model's folder lies in; ``None``: it lies in none."""
    file = folder.parent / "config.yaml"
    return read_run_config(folder.parent) if file.is_file() else None


def read_run_config(run: Path, allow_code: Sequence[str] = ()) -> DictConfig:
    """Return a run's config, with names of older versions translated.

    Args:
        run: the run's folder.
        allow_code: packages whose classes it may name beside this one's.

    Raises:
        UserError: if it is no run, or names other code.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no run: config.yaml is missing")
    set_up_hydra()
    config = legacy.update_config(read_config(run))
    check_targets("", OmegaConf.to_container(config, resolve=True), allow_code)
    return config


def run_task(config: DictConfig) -> Task:
    """Return the task of a run.

    Raises:
        UserError: for one that reads no texts, whose records this package does not read.
    """
    task: Task = instantiate(config.task, _convert_="all")
    if task.schema.inputs_are != "texts":
        raise UserError(
            f"task={task.name} reads {task.schema.inputs_are}, and only models of texts predict "
            "and are exported here: README.md in the model's folder says how transformers runs it"
        )
    return task


def model_max_length(config: DictConfig, what: str) -> int:
    """Return the maximum number of tokens that a run's model reads of an example."""
    own = config.student.get("max_length") if what in ("student", "control") else None
    return int(own or config.data.max_length)


def tokenizer_settings(
    processor: Any, model: PreTrainedModel, max_length: int
) -> TokenizerSettings:
    """Return what is needed to encode texts without transformers.

    Raises:
        UserError: for a tokenizer that is not one of the ``tokenizers`` library.
    """
    if getattr(processor, "backend_tokenizer", None) is None:
        raise UserError(
            f"{type(processor).__name__} is no fast tokenizer (tokenizer.json), which predictions "
            "need"
        )
    names = [name for name in processor.model_input_names if name != "attention_mask"]
    return TokenizerSettings(
        max_length=max_length,
        inputs=[
            name
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if (name in names or name == "attention_mask") and loading.accepts_input(model, name)
        ],
        pad_id=processor.pad_token_id
        if processor.pad_token_id is not None
        else processor.eos_token_id,
        pad_type_id=processor.pad_token_type_id,
        cls_id=processor.cls_token_id,
        mask_id=processor.mask_token_id,
        truncation_side=processor.truncation_side,
        leading_space=needs_leading_space(processor),
        special_ids=sorted(processor.all_special_ids),
    )


def input_columns(task: Task, config: DictConfig | None) -> dict[str, list[str]]:
    """Return the names that a record's inputs may have: the data's own, the usual, and the role."""
    columns = {}
    for role, column in task.schema.columns.items():
        if role == LABEL:
            continue
        own = config.data.get(role) if config is not None else None
        names = [own] if isinstance(own, str) and own != "auto" else []
        columns[role] = list(dict.fromkeys([*names, *column.names, role]))
    return columns


def temperature_of(folder: Path) -> float:
    """Return the temperature that the run has fitted for a model; 1 where it has none."""
    file = folder.parent / FILE_NAME
    if not file.is_file():
        return 1.0
    models: Sequence[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["models"]
    for model in models:
        if model["role"] == folder.name:
            return float((model.get("temperature_scaling") or {}).get("temperature") or 1.0)
    return 1.0


def _may_be_empty(task: Task, config: DictConfig | None) -> bool:
    """Return whether some question of the evaluated split has no answer, as evaluation asks."""
    if config is None:
        return True
    source: Any = instantiate(config.data, _convert_="all")
    data = prepare_data(source, task.schema, Path(config.cache_dir).expanduser())
    return has_unanswerable(data.splits["test"])


def _task_of(config: Any, folder: Path) -> Task:
    """Return the task of a saved model that belongs to no run, by its head."""
    architecture = (config.architectures or ["none"])[0]
    tasks: tuple[Task, ...] = (
        MultiLabel(), Regression(scale=_scale_of(config)), SequenceClassification(),
        TokenClassification("accuracy"), QuestionAnswering(), MaskedLM(),
    )  # fmt: skip
    for task in tasks:
        kinds = task.head.accepted_problem_types
        if architecture.endswith(task.head.architectures) and (
            getattr(config, "problem_type", None) in kinds
        ):
            return task
    raise UserError(f"{folder}: {architecture} has no head that answers can be read from")


def _scale_of(config: Any) -> float:
    """Return what the labels of a regression were divided by, as its output's name says."""
    name = next(iter(output_names(config).values()), "")
    return float(name.removeprefix(SCALED)) if name.startswith(SCALED) else 1.0
