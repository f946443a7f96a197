"""A run's folder: what stands where, and what an interrupted run left in it."""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from transformers import PreTrainedModel

from distill.config.environment import resolve_for_writing
from distill.core import checksums
from distill.core.cache import USED, USERS, remove
from distill.core.checksums import DamagedError
from distill.core.permissions import apply_umask
from distill.data.preprocessor import Processor
from distill.pipeline import run_identity
from distill.reporting.record import ReportError
from distill.reporting.schema import FILE_NAME, Report, load_report
from distill.training import checkpoints
from distill.training.trainer import TrainingResult

log = logging.getLogger(__name__)

# config.yaml is itself a primary config that repeats the command: Hydra has to be told where the
# new folder is.
FOLDERS = {
    "distill": "${run_dir:${output_dir},${resume},${name}}",
    "distill-evaluate": "${evaluation_dir:${output_dir},${name}}",
}

# What a run writes into its folder, beside run.log, which is open.
RUN_FILES = (
    "config.yaml", "inputs.json", "report.*", "tradeoff*.png", "student*", "control*",
    "checkpoints", "repeats", "events.out.tfevents.*", "error.txt", "stopped.txt", "checksums.json",
    USED, ".*.partial",
)  # fmt: skip


class RunDirectory:
    """The folder of one run.

    Args:
        path: made if it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: DictConfig, command: str = "distill") -> None:
        """Write config.yaml: resolved, and itself a complete config that repeats the command.

        What comes from environment variables stays as it was given.
        """
        plain = resolve_for_writing(config)
        plain.update({key: None for key in ("output_dir", "resume") if key in plain})
        if "overwrite" in plain:
            plain["overwrite"] = False
        plain["hydra"] = {"run": {"dir": FOLDERS[command]}, "output_subdir": None}
        header = (
            f"# Repeats this run: {command} --config-path FOLDER --config-name config\n"
            "# (FOLDER: the absolute path of this one; further overrides may follow)\n"
        )
        content = OmegaConf.to_yaml(OmegaConf.create(plain))
        _write_atomically(self.path / "config.yaml", header + content)

    def begin(self, config: DictConfig, inputs: Mapping[str, str]) -> Report | None:
        """Begin a run in the folder, or go on with the same one; write config.yaml and inputs.json.

        Args:
            config: composed; with ``overwrite``, the run that is there is removed.
            inputs: hash of each input by what it is.

        Returns:
            The report of the same run if it was finished before.

        Raises:
            UserError: if the run that is there had other inputs.
        """
        if config.get("overwrite"):
            self._remove_run()
        run_identity.check_same_inputs(self.path, inputs)
        if (report := self._finished_report(config)) is not None:
            return report
        self.write_config(config)
        content = json.dumps(dict(inputs), indent=2, ensure_ascii=False) + "\n"
        _write_atomically(self.path / run_identity.INPUTS, content)
        return None

    def _finished_report(self, config: DictConfig) -> Report | None:
        if not (self.path / FILE_NAME).exists() or self.finished("student") is None:
            return None
        if run_identity.differing_settings(self.path, config):
            return None
        if (self.path / "control").exists() and self.finished("control") is None:
            return None
        try:
            return load_report(self.path)
        except ReportError:  # missing or damaged: it is measured again
            return None

    def _remove_run(self) -> None:
        """Remove what a run has written, and nothing else."""
        for pattern in RUN_FILES:
            for path in self.path.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    @property
    def checkpoints(self) -> Path:
        """Where the student's checkpoints lie."""
        return self.path / "checkpoints"

    def of_seed(self, seed: int) -> "RunDirectory":
        """Return the folder of one of several seeds, below this one, laid out in the same way."""
        return RunDirectory(self.path / "repeats" / str(seed))

    def drop_checkpoints(self) -> None:
        """Remove what is only needed to continue a training that is finished."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def finished(self, role: str) -> TrainingResult | None:
        """What a role's training came to, if an earlier attempt at this run finished it."""
        folder = self.path / role
        if not os.path.lexists(folder):
            return None
        try:
            checksums.check_folder(folder)
            return TrainingResult(**json.loads((folder / "training.json").read_text()))
        except (
            DamagedError,
            FileNotFoundError,
            NotADirectoryError,
            ValueError,
            TypeError,
        ) as fault:
            aside = folder.with_name(f"{role}.damaged")
            remove(aside)
            folder.replace(aside)
            log.warning(
                "%s: %s is damaged (%s): made anew, set aside as %s", role, folder,
                " ".join(str(fault).split())[:100], aside,
            )  # fmt: skip
            return None

    def finished_stage(self, name: str, model: nn.Module) -> TrainingResult | None:
        """What an earlier stage came to, its weights loaded, if it was finished."""
        file = self.checkpoints / name / "finished.ckpt"
        if not file.exists():
            return None
        if not checkpoints.is_whole(file):
            log.warning("%s: %s is damaged, the stage is trained again", name, file)
            remove(file)
            return None
        saved = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["weights"])
        return TrainingResult(**saved["fitted"])

    def save_stage(self, name: str, model: nn.Module, result: TrainingResult) -> None:
        """Keep the weights at the end of a stage, in place of its checkpoints."""
        folder = self.checkpoints / name
        content = {"weights": model.state_dict(), "fitted": asdict(result)}
        checkpoints.save(content, folder / "finished.ckpt")
        checkpoints.drop_checkpoints(
            folder, checkpoints.BEST, checkpoints.LAST, checkpoints.PREVIOUS
        )

    def save_student(
        self, model: PreTrainedModel, processor: Processor, result: TrainingResult
    ) -> None:
        """Save the student, whole or not at all, and drop the checkpoint it came from."""
        with self._replaced("student") as partial:
            model.save_pretrained(partial)
            processor.save_pretrained(partial)
            (partial / "training.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
        checkpoints.drop_checkpoints(self.checkpoints, checkpoints.BEST, checkpoints.PREVIOUS)

    def copy_control(self, folder: Path) -> None:
        """Copy the control from the cache, without its curves: the run's own folder has them."""
        with self._replaced("control") as partial:
            ignored = shutil.ignore_patterns("events.out.tfevents.*", checksums.CHECKSUMS, USERS)
            shutil.copytree(folder, partial, dirs_exist_ok=True, ignore=ignored)

    @contextmanager
    def _replaced(self, name: str) -> Iterator[Path]:
        """A new folder that takes its name when it is whole."""
        partial = self.path / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        apply_umask(partial)
        checksums.write_checksums(partial)
        remove(self.path / name)
        partial.replace(self.path / name)
        checksums.synchronize(self.path)


def _write_atomically(path: Path, content: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
