"""The model of a run that is exported, with what its export is checked on."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from transformers import PreTrainedModel

from distill.answers.base import AnswerReader, Window
from distill.answers.tokenizer import TokenizerSettings
from distill.core.errors import UserError
from distill.data.dataset import DistillationDataset
from distill.data.prepare import PreparedData, prepare_data
from distill.data.preprocessor import POSITIONS
from distill.modeling.inputs import MASK
from distill.modeling.loading import check_max_length, check_whole, max_positions, weight_files
from distill.pipeline.components import RunComponents
from distill.predict.saved import (
    input_columns,
    model_max_length,
    read_run_config,
    run_task,
    temperature_of,
    tokenizer_settings,
)
from distill.tasks.base import Task
from distill.tasks.question_answering.evaluator import has_unanswerable
from distill.teacher.prepare import TeacherPreparation, prepare_teacher
from distill.training.loggers import TensorBoardLogger

MODELS = ("student", "control", "teacher")


@dataclass(frozen=True)
class ExportSource:
    """A trained model that is exported.

    Attributes:
        run: the run's folder.
        what: ``student``, ``control`` or ``teacher``.
        model: the model, in evaluation mode.
        processor: its tokenizer.
        task: the task, which measures it.
        data: the run's data.
        examples: the evaluated split as the model reads it.
        settings: how texts are encoded without transformers.
        reader: how records and answers read.
        weights: files of its weights in torch.
    """

    run: Path
    what: str
    model: PreTrainedModel
    processor: Any
    task: Task
    data: PreparedData
    examples: DistillationDataset
    settings: TokenizerSettings
    reader: AnswerReader
    weights: Sequence[Path]

    @property
    def labels(self) -> Sequence[str]:
        """Names of the outputs in their order."""
        return self.data.label_names

    @property
    def longest(self) -> int:
        """Maximum number of tokens that it is checked with."""
        positions = max_positions(self.model.config)
        length = self.settings.max_length
        return length if positions is None else min(length, positions)

    @cached_property
    def windows(self) -> list[Window]:
        """The examples of the evaluated split, in the order of its rows."""
        return windows_of(self.examples)


def windows_of(examples: DistillationDataset) -> list[Window]:
    """Return the examples of a split as a runtime takes them."""
    windows = []
    for start in range(0, len(examples), 256):
        indices = list(range(start, min(start + 256, len(examples))))
        batch = examples[indices]["student"]
        rows = {name: value.numpy() for name, value in batch.items()}
        for row, mask in enumerate(rows[MASK].astype(bool)):
            ids = rows["input_ids"][row, mask].tolist()
            types = rows.get("token_type_ids")
            positions = rows.get(POSITIONS)
            windows.append(
                Window(
                    ids,
                    [0] * len(ids) if types is None else types[row, mask].tolist(),
                    None if positions is None else [p for p in positions[row].tolist() if p >= 0],
                )
            )
    return windows


def load_source(run: Path, what: str, allow_code: Sequence[str] = ()) -> ExportSource:
    """Load a model of a run and the run's data.

    Args:
        run: the run's folder.
        what: ``student``, ``control`` or ``teacher``.
        allow_code: packages whose classes the run's config may name beside this one's.

    Raises:
        UserError: if there is no such run or model, or its answers cannot be read.
    """
    config = read_run_config(run, allow_code)
    task = run_task(config)
    source: Any = instantiate(config.data, _convert_="all")
    cache_dir = Path(config.cache_dir).expanduser()
    if what != "teacher" and not (run / what / "config.json").is_file():
        raise UserError(f"{run} has no {what}: {run / what} is missing")
    if what != "teacher":
        check_whole(run / what, what)
    data = prepare_data(source, task.schema, cache_dir)
    if what == "teacher":
        model, processor, weights = _load_teacher(config, data)
    else:
        processor = task.preprocessor.load_processor(str(run / what), f"the {what}")
        model = task.head.load_trained(run / what, data.label_names).eval()
        weights = weight_files(str(run / what))
    max_length = check_max_length(model.config, model_max_length(config, what))
    encoder = task.encoder(data, cache_dir)
    rows = {split: encoder.encode(split, processor, max_length) for split in ("train", "test")}
    transform = task.preprocessor.batch_transform(processor, rows["train"])
    examples = DistillationDataset(
        rows["test"], encoder.collator(processor, transform), source=data.splits["test"]
    )
    return make_source(
        run, what, model, processor, task, data, examples, max_length, config, weights
    )


def make_source(
    run: Path,
    what: str,
    model: PreTrainedModel,
    processor: Any,
    task: Task,
    data: PreparedData,
    examples: DistillationDataset,
    max_length: int,
    config: DictConfig | None = None,
    weights: Sequence[Path] = (),
) -> ExportSource:
    """Return a source with the reader and the settings of its tokenizer."""
    test = data.splits["test"]
    own: dict[str, Any] = {"pairs": "text_pair" in test.column_names}
    if task.name == "question_answering":
        own = {"may_be_empty": has_unanswerable(test)}
    reader = task.answer_reader(
        data.label_names,
        columns=input_columns(task, config),
        temperature=temperature_of(run / what),
        **own,
    )
    settings = tokenizer_settings(processor, model, max_length)
    return ExportSource(
        run, what, model, processor, task, data, examples, settings, reader, weights
    )


def _load_teacher(
    config: DictConfig, data: PreparedData
) -> tuple[PreTrainedModel, Any, Sequence[Path]]:
    """Return a run's teacher, from the cache where it was fine-tuned."""
    components = RunComponents.from_config(config)
    components.bind_objective(len(data.label_names))
    with tempfile.TemporaryDirectory() as folder:
        teacher = prepare_teacher(
            components.teacher,
            TeacherPreparation(
                data, components.task, components.trainer, components.source.max_length,
                components.cache_dir, TensorBoardLogger(Path(folder)),
            ),
        )  # fmt: skip
    if teacher.members:
        raise UserError("the teacher is an ensemble, which cannot be exported: export the student")
    return teacher.pretrained_model.float().eval(), teacher.processor, teacher.weight_files
