"""The command ``distill-search``: finds the front of quality against cost.

A thin Hydra shell like ``distill``'s. Options that have several values on the command line never
reach Hydra, which would ask for ``-m``; together with ``search.space`` they say what is searched.

A command, and not a sweeper behind ``distill -m``: a sweeper sees a job's return value only, while
a trial has to be stopped in the middle, continued after an interrupt and recorded when it fails; a
sweep cannot be continued at all; and what ``-m`` means (every combination) stays one thing.
"""

import functools
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill.config.error_messages import hydra_errors_raised, user_message
from distill.config.resolvers import conf_dir, register_resolvers
from distill.config.validation import validate_config, validate_node
from distill.core.errors import UserError

if TYPE_CHECKING:
    from distill.search.space import Compose, Space
    from distill.search.study import Study

log = logging.getLogger(__name__)

# What was asked for: in the search's folder, so that only the same search is continued in it.
RECORD = "search.yaml"
LOCK = ".search.lock"
UNTOUCHED = {"run.log", LOCK}
# May be different when a search is continued.
BUDGET = ("trials", "minutes", "control")
ELSEWHERE = ("output_dir", "cache_dir", "overrides", "name")


def main() -> None:
    """Entry point: compose, search, and answer a mistake with one line and exit code 2."""
    register_resolvers()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    failure: list[Exception] = []
    try:
        command = shlex.join(["distill-search", *sys.argv[1:]])
        typed, sys.argv[1:] = _arguments(sys.argv[1:])

        def job(config: DictConfig) -> None:
            folder = Path(HydraConfig.get().runtime.output_dir)
            try:
                print(search(config, typed, folder, command))
            except Exception as error:  # Hydra would add lines of its own
                _remove_if_untouched(folder)
                failure.append(error)

        with hydra_errors_raised():
            hydra.main(version_base="1.3", config_path=conf_dir(), config_name="config")(job)()
        if failure:
            raise failure[0]
    except KeyboardInterrupt:
        print("interrupted: the same command continues the search", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = user_message(error)
        if message is None or wants_traceback:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def search(config: DictConfig, typed: "Space", folder: Path, command: str) -> str:
    """Search until the budget is used up, and report.

    Args:
        config: composed, with the node ``search``.
        typed: the options with several values on the command line.
        folder: the search's; what is in it is continued.
        command: what was typed, for the report.

    Returns:
        The report's short form, for a terminal.

    Raises:
        UserError: for what the user can mend, before any training.
    """
    from distill.search import space as spaces
    from distill.search.study import Study

    fixed = _fixed(config)
    validate_node("search", OmegaConf.to_container(config.search, resolve=True))
    settings = instantiate(config.search, _convert_="all")

    @functools.cache  # takes Hydra some 50 ms
    def compose(*overrides: str) -> DictConfig:
        with_control = any(o.startswith("control=") for o in (*fixed, *overrides))
        given = [*fixed, *overrides, *([] if with_control else ["control=false"])]
        run = hydra.compose("config", given)
        run.overrides = given
        return run

    space = spaces.read(settings.space, typed, fixed, compose)
    base = compose()
    asked = _asked(base, config.search, space)
    with _alone(folder):
        started = _started(folder, asked)
        if started:
            study = Study(folder, settings, space, compose, base.seed)
        if not started or study.used_up() is None:
            asked["examples"] = _check_runs(base, space, compose)
            if started:
                _started(folder, asked)
            else:
                OmegaConf.save(OmegaConf.create(asked), folder / RECORD)
                study = Study(folder, settings, space, compose, base.seed)
        return _work(study, space, command)


def _work(study: "Study", space: "Space", command: str) -> str:
    """Run what the budget allows, then the controls, and write the reports."""
    from distill.reporting.sweep import write_sweep
    from distill.search import report
    from distill.search.space import describe

    words = {option: describe(distribution) for option, distribution in space.items()}

    def write() -> tuple[report.SearchSummary, str]:
        summary = report.summarize_search(study, words, command)
        report.write(study.folder, summary)
        return summary, write_sweep(study.folder, x=study.settings.minimize[0])

    idle = True
    while not (reason := study.used_up()):
        trial = study.next()
        if trial is None:
            reason = "every combination that can be drawn was tried"
            break
        name, idle = trial.user_attrs["folder"], False
        log.info("trial %s", name)
        log.info("trial %s: %s", name, report.line(study.run(trial), study.folder))
        report.write_history(study.folder, write()[0])
    if study.settings.control:
        idle = study.train_controls() == 0 and idle
    summary, table = write()
    if not summary.front:
        raise UserError(f"no trial finished, see {study.folder}/search.md")
    if not idle:
        from distill.reporting import tensorboard

        report.write_history(study.folder, summary)
        sweep = (study.folder / "sweep.md").read_text(encoding="utf-8")
        tensorboard.write_sweep(study.folder, sweep, study.folder / "front.png")
    return "\n".join(
        [
            *("", f"search ended: {reason}", report.terminal(summary)),
            *("", report.SELECTION_NOTE, "", table),
        ]
    )


def _arguments(given: list[str]) -> tuple["Space", list[str]]:
    """What is searched, and the command line for Hydra."""
    if {"-m", "--multirun"} & set(given):
        raise UserError("distill-search makes many runs by itself: leave out -m")
    try:
        from distill.search.space import split
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "optuna":
            raise
        raise UserError("distill-search needs Optuna: pip install 'distill[search]'") from error
    typed, others = split(given)
    for argument in given:
        if argument.lstrip("+~").startswith("search.space"):
            option = argument.split("=")[0].partition("search.space.")[2] or "student"
            raise UserError(
                f"{argument}: give the option itself several values, {option}=A,B or "
                f"'{option}=interval(LOW,HIGH)'"
            )
    if not any(argument.startswith("search=") for argument in others):
        others.append("search=default")
    # In one piece: argparse takes no overrides on both sides of a flag.
    overrides = [a for a in others if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return typed, [
        "hydra/help=search",
        "hydra.run.dir='${search_dir:${output_dir},${data.name}}'",
        *(f"+{one}" if one.startswith("search=") else one for one in overrides),
        *(argument for argument in others if argument not in overrides),
    ]


def _fixed(config: DictConfig) -> list[str]:
    """The overrides of every run, from the command line's."""
    given = list(HydraConfig.get().overrides.task)
    if config.resume is not None:
        raise UserError("the same command continues a search: leave out resume")
    if config.trainer.get("devices", 1) != 1 or config.trainer.get("strategy", "auto") != "auto":
        raise UserError(
            "a search uses one device: leave trainer.devices=1 and trainer.strategy=auto"
        )
    own = ("search", "output_dir")
    return [o for o in given if o.lstrip("+~").split("=")[0].split(".")[0] not in own]


def _asked(base: DictConfig, node: DictConfig, space: "Space") -> dict[str, Any]:
    """What a search is, as far as continuing it goes: plain, for search.yaml."""
    from distill.search.space import describe

    settings = OmegaConf.to_container(node, resolve=True)
    run = OmegaConf.to_container(base, resolve=True)
    return {
        "search": {k: v for k, v in settings.items() if k not in (*BUDGET, "_target_", "space")},
        "space": {option: describe(distribution) for option, distribution in space.items()},
        "run": {k: v for k, v in run.items() if k not in ELSEWHERE},
    }


def _started(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether a folder holds a search; another one than what is asked for is refused."""
    record = folder / RECORD
    if not record.is_file():
        if {path.name for path in folder.iterdir()} - UNTOUCHED:
            raise UserError(f"output_dir={folder}: it holds something that is no search")
        return False
    there = OmegaConf.to_container(OmegaConf.load(record))
    was, now = (
        dict(_leaves({part: content[part] for part in asked})) for content in (there, asked)
    )
    option = next((key for key in was | now if was.get(key) != now.get(key)), None)
    if option is None:
        return True
    if option.startswith("examples."):
        raise UserError(f"{folder}: the data have changed since this search began")
    raise UserError(
        f"{folder} holds a search with {option}={was.get(option)}, not {now.get(option)}: "
        "repeat its command to continue it, or give output_dir=FOLDER for another search"
    )


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield path.removeprefix("run."), node
    else:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else key)


def _check_runs(base: DictConfig, space: "Space", compose: "Compose") -> dict[str, str]:
    """Refuse settings, teacher or data that no run could start with; the hashes of the splits."""
    validate_config(base)
    # Heavy imports wait until the options are known to be right.
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    from distill.data.prepare import prepare_data
    from distill.pipeline.components import RunComponents
    from distill.search.space import check_all

    check_all(space, compose)
    job = RunComponents.from_config(base)
    return prepare_data(job.source, job.task.schema, job.cache_dir).hashes


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another distill-search is at work in {folder}") from error


def _remove_if_untouched(folder: Path) -> None:
    """Remove what would look like a search, if a mistake was found before anything was run."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= UNTOUCHED:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
