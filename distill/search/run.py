"""The main flow of a search: space, checks, trials, controls, reports."""

import functools
import logging
from pathlib import Path

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill.config.trust import check_targets
from distill.config.validation import validate_config, validate_node
from distill.core.errors import UserError
from distill.search import record, report
from distill.search.space import Compose, Space, check_all, describe, first_choices, read_space
from distill.search.study import Study

log = logging.getLogger(__name__)


def run_search(
    config: DictConfig, overrides: list[str], typed: Space, folder: Path, command: str
) -> str:
    """Search until the budget is used up, and report.

    Args:
        config: Composed, with the node ``search``.
        overrides: What it was composed with.
        typed: Options with several values on the command line.
        folder: The search's; a search in it is continued.
        command: The command line, for the report.

    Returns:
        The report's short form, for a terminal.

    Raises:
        UserError: For a mistake of the user, before any training.
    """
    fixed = fixed_overrides(config, overrides)
    node = OmegaConf.to_container(config.search, resolve=True)
    assert isinstance(node, dict)
    check_targets("search", node)
    validate_node("search", {str(key): value for key, value in node.items()})
    settings = instantiate(config.search, _convert_="all")
    compose = composer(fixed)
    space = read_space(settings.space, typed, fixed, compose)
    base = compose()
    search = record.describe_search(base, config.search, space)
    with record.locked(folder):
        started = record.has_record(folder, search)
        if started:
            study = Study(folder, settings, space, compose, base.seed)
        if not started or study.used_up() is None:
            search["examples"] = _check_runs(compose(*first_choices(space)), space, compose)
            if started:
                record.has_record(folder, search)
            else:
                record.write_record(folder, search)
                study = Study(folder, settings, space, compose, base.seed)
        return _run_trials(study, space, command)


def composer(fixed: list[str], control: bool | None = False) -> Compose:
    """Return a function from a trial's overrides to the config of its run.

    Args:
        fixed: Overrides of every run.
        control: What ``control`` is where no override sets it; ``None``: the config's own.
    """

    @functools.cache  # takes Hydra some 50 ms
    def compose(*overrides: str) -> DictConfig:
        given = [*fixed, *overrides]
        if not any(o.startswith("repeats=") for o in given):
            given.append("repeats=1")  # trials are compared by one seed each
        if control is not None and not any(o.startswith("control=") for o in given):
            given.append(f"control={str(control).lower()}")
        run = hydra.compose("config", given)
        run.overrides = given
        return run

    return compose


def _run_trials(study: Study, space: Space, command: str) -> str:
    """Run what the budget allows, then the controls, and write the reports."""
    from distill.reporting.sweep import write_sweep

    values = {option: describe(distribution) for option, distribution in space.items()}

    def write() -> tuple[report.SearchSummary, str]:
        summary = report.summarize_search(study, values, command)
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


def fixed_overrides(config: DictConfig, overrides: list[str]) -> list[str]:
    """Return the overrides that every run of the search gets."""
    if config.resume is not None:
        raise UserError("the same command continues a search: leave out resume")
    if config.overwrite:
        raise UserError("a search replaces no runs: leave out overwrite, give another output_dir")
    if config.trainer.get("devices", 1) != 1 or config.trainer.get("strategy", "auto") != "auto":
        raise UserError(
            "a search uses one device: leave trainer.devices=1 and trainer.strategy=auto"
        )
    not_of_runs = ("search", "output_dir")
    return [
        override
        for override in overrides
        if override.lstrip("+~").split("=")[0].split(".")[0] not in not_of_runs
    ]


def _check_runs(base: DictConfig, space: Space, compose: Compose) -> dict[str, str]:
    """Refuse settings, teacher or data that no run could start with.

    Args:
        base: Config of a run with the first choice of each group.
        space: What is searched over.
        compose: Function from overrides to a config.

    Returns:
        The hashes of the splits of the data.
    """
    validate_config(base)
    # Heavy imports wait until the options are known to be right.
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    from distill.data.prepare import prepare_data
    from distill.pipeline.components import RunComponents

    check_all(space, compose)
    components = RunComponents.from_config(base)
    metric = components.task.evaluator.selection_metric
    if not metric.higher_is_better:
        raise UserError(
            f"distill-search maximizes the metric on validation, and task.metric={metric.name} is "
            "better when lower: choose another with task.metric=..."
        )
    return prepare_data(components.source, components.task.schema, components.cache_dir).hashes
