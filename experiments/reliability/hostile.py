"""Hostile files, models, data and names: each would leave a canary, a file, if it were obeyed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from experiments.reliability.workspace import Outcome, Process, Workspace
from tests.factories import sentences, write_csv

Attack = Callable[[Workspace, Path], tuple[Outcome, str | None]]


def _config(workspace: Workspace, change: dict[str, Any]) -> Path:
    """Return a folder with the reference's config.yaml, changed."""
    folder = workspace.folder / "given"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    content = yaml.safe_load((workspace.folder / "reference" / "config.yaml").read_text())
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = content[key] | value if both else value
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def _in_file(change: Callable[[Path], dict[str, Any]], way: str) -> Attack:
    def attack(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
        folder = _config(workspace, change(canary))
        if way == "resume":
            arguments = [f"resume={folder}"]
        elif way == "--config-path":
            output = f"output_dir={workspace.folder / 'attacked'}"
            arguments = ["--config-path", str(folder), "--config-name", "config", output]
        else:
            (folder / "experiment").mkdir()
            text = "# @package _global_\n" + yaml.safe_dump(change(canary))
            (folder / "experiment" / "mine.yaml").write_text(text)
            output = f"output_dir={workspace.folder / 'attacked'}"
            arguments = ["--config-dir", str(folder), *workspace.options, output]
            arguments.append("+experiment=mine")
        outcome = workspace.start(*arguments).wait()
        workspace.forget("attacked")
        return outcome, None if outcome.code == 2 else f"exit code {outcome.code}"

    return attack


def _makes_folder(canary: Path) -> dict[str, Any]:
    return {"_target_": "os.mkdir", "path": str(canary)}


def _export(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    folder = _config(workspace, {"task": _makes_folder(canary)})
    shutil.copytree(workspace.folder / "reference" / "student", folder / "student")

    def export() -> int:
        from distill.cli.export import main

        return main([str(folder)])

    outcome = Process(export, workspace.log).wait()
    return outcome, None if outcome.code == 2 else f"exit code {outcome.code}"


class _Pickled:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def _pickled_weights(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    folder = workspace.folder / "pickled"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workspace.teacher, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"weights": _Pickled(canary)}, folder / "pytorch_model.bin", pickle_module=pickle)

    def environment() -> None:
        os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

    outcome = workspace.run("attacked", f"teacher.path={folder}", before=environment)
    workspace.forget("attacked")
    return outcome, None if outcome.code == 2 else f"exit code {outcome.code}"


def _pickled_checkpoint(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    folder = _config(workspace, {})
    shutil.copy(workspace.folder / "reference" / "inputs.json", folder)
    (folder / "checkpoints").mkdir()
    torch.save({"x": _Pickled(canary)}, folder / "checkpoints" / "last.ckpt", pickle_module=pickle)

    def environment() -> None:
        os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"

    outcome = workspace.start(f"resume={folder}", before=environment).wait()
    return outcome, None if outcome.code == 0 else f"exit code {outcome.code}"


def _remote_code(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    folder = workspace.folder / "remote"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workspace.teacher, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"import os\nos.mkdir({str(canary)!r})\nC = M = object\n")
    outcome = workspace.run("attacked", f"teacher.path={folder}")
    workspace.forget("attacked")
    problem = None if outcome.code == 2 else f"exit code {outcome.code}"
    return outcome, "it asks" if "[y/N]" in outcome.out + outcome.err else problem


def _names(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    before = {path.name for path in workspace.folder.parent.iterdir()}
    outcome = workspace.run("attacked", "data.name=../../../escaped", "student.name=../../escaped")
    escaped = {path.name for path in workspace.folder.parent.iterdir()} - before
    outside = [path for path in workspace.folder.iterdir() if "escaped" in path.name]
    workspace.forget("attacked")
    found = outside or [name for name in escaped if "escaped" in name]
    return outcome, f"{found[0]} was written" if found else None


def _control_characters(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    folder = workspace.folder / "escapes"
    for split, count, seed in (("train", 60, 1), ("test", 30, 3)):
        rows = [row | {"label": f"\x1b[2J\x07{row['label']}"} for row in sentences(count, seed)]
        write_csv(folder / f"{split}.csv", rows)
    outcome = workspace.run("attacked", f"data.path={folder}", "data.name='a\x1b]0;b'")
    workspace.forget("attacked")
    shown = "\x1b" in outcome.out + outcome.err or "\x07" in outcome.out + outcome.err
    return outcome, "a control character reached the terminal" if shown else None


def _secrets(workspace: Workspace, canary: Path) -> tuple[Outcome, str | None]:
    def environment() -> None:
        os.environ["SECRET_FOLDER"] = str(workspace.data.parent)
        os.environ["SECRET"] = "s3cr3t-value"

    path = "data.path=${oc.env:SECRET_FOLDER}/films"
    # The tag is an option that nothing reads but the file.
    outcome = workspace.run("attacked", path, before=environment)
    content = (workspace.folder / "attacked" / "config.yaml").read_text()
    problem = None if "${oc.env:SECRET_FOLDER}/films" in content else "the variable was resolved"
    workspace.forget("attacked")
    if problem is None:
        named = workspace.run("attacked", "data.name=${oc.env:SECRET}", before=environment)
        problem = None if named.code == 2 else "a name may be a variable's value"
        if "s3cr3t-value" in named.out + named.err:
            problem = "the value was shown"
        workspace.forget("attacked")
    return outcome, problem


ATTACKS: dict[str, Attack] = {
    f"{what}, {way}": _in_file(change, way)
    for what, change, ways in (
        ("a target", lambda canary: {"student": _makes_folder(canary)}, ("resume",)),
        (
            "a target", lambda canary: {"data": {"augmentation": _makes_folder(canary)}},
            ("--config-path", "--config-dir"),
        ),
        (
            "a target that the file allows",
            lambda canary: {"allow_code": ["os", "posix"], "task": _makes_folder(canary)},
            ("resume", "--config-path", "--config-dir"),
        ),
        (
            "hydra.callbacks",
            lambda canary: {"hydra": {"callbacks": {"x": _makes_folder(canary)}}},
            ("--config-path", "--config-dir"),
        ),
        (
            "hydra.launcher", lambda canary: {"hydra": {"launcher": _makes_folder(canary)}},
            ("--config-path", "--config-dir"),
        ),
        (
            "hydra.job_logging",
            lambda canary: {
                "hydra": {
                    "job_logging": {
                        "version": 1, "root": {"handlers": ["x"]},
                        "handlers": {
                            "x": {"class": "logging.FileHandler", "filename": str(canary)}
                        },
                    }
                }
            },
            ("--config-path", "--config-dir"),
        ),
        (
            "hydra.run.dir", lambda canary: {"hydra": {"run": {"dir": str(canary)}}},
            ("--config-path", "--config-dir"),
        ),
    )
    for way in ways
}  # fmt: skip
ATTACKS |= {
    "a target, distill-export": _export,
    "pickled weights": _pickled_weights,
    "a pickled checkpoint": _pickled_checkpoint,
    "a model with code of its own": _remote_code,
    "names with ..": _names,
    "control characters in labels": _control_characters,
    "environment variables": _secrets,
}


def foreign_reports(workspace: Workspace) -> Iterator[tuple[str, str | None]]:
    """Let ``distill-report`` read damaged and foreign report.json; yield each and its problem."""
    content = (workspace.folder / "reference" / "report.json").read_bytes()
    report = json.loads(content)
    cases: dict[str, bytes] = {
        "empty": b"", "cut short": content[: len(content) // 2], "zeros": bytes(len(content)),
        "a list": b"[]", "null": b"null",
        "another schema": json.dumps(report | {"schema": 9}).encode(),
        "nested without end": b"[" * 100_000, "not UTF-8": b"\xff\xfe" + content,
        "models are a text": json.dumps(report | {"models": "none"}).encode(),
        "one flipped bit": content.replace(b'"value": 0.', b'"value": 1.', 1),
        "control characters": content.replace(b'"name": "', b'"name": "\\u001b[2J', 1),
    }  # fmt: skip
    for case, damaged in cases.items():
        folder = workspace.folder / "reports"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(workspace.folder / "reference", folder / "good")
        shutil.copytree(workspace.folder / "reference", folder / "bad")
        (folder / "bad" / "report.json").write_bytes(damaged)
        if case == "control characters":  # somebody else's, without a checksum
            (folder / "bad" / "checksums.json").unlink()

        def report_on(folder: Path = folder) -> int:
            from distill.cli.report import main

            return main([str(folder)])

        outcome = Process(report_on, workspace.log).wait()
        problem = None
        if outcome.code != 0 or outcome.has_traceback:
            problem = f"exit code {outcome.code}: {outcome.err[-200:]}"
        elif case != "control characters" and "bad" not in outcome.out:
            problem = "nothing is said of it"
        elif "\x1b" in outcome.out:
            problem = "a control character reached the terminal"
        yield case, problem
