"""The main flow of a search with a budget: measure, halve, choose, test the choice, report."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill.config.trust import check_targets
from distill.config.validation import validate_config, validate_node
from distill.core.errors import UnmetGoal, UserError
from distill.search import budget_report, record
from distill.search.budget import BudgetConfig
from distill.search.halving import number_of_rungs, ranked, rung_epochs, survivors
from distill.search.run import composer, fixed_overrides
from distill.search.space import Space

if TYPE_CHECKING:
    from distill.search.candidates import Candidate, Candidates

log = logging.getLogger(__name__)

# Seconds that measuring and reporting the choice take, beside its training.
SECONDS_OF_REPORT = 15.0


def run_budget_search(
    config: DictConfig, overrides: list[str], typed: Space, folder: Path, command: str
) -> str:
    """Find the student that a budget asks for, and report on it.

    Args:
        config: Composed, with the node ``search``.
        overrides: What it was composed with.
        typed: Options with several values on the command line; there must be none.
        folder: The search's; a search in it is continued.
        command: The command line, for the report.

    Returns:
        The report's short form, for a terminal.

    Raises:
        UserError: For a mistake of the user, before any training.
        UnmetGoal: No candidate keeps as much of the teacher's metric as asked for; the report is
            written all the same.
    """
    if typed:
        raise UserError(
            f"a search with a budget has candidates, not a space: give {', '.join(typed)} one "
            "value, or change search.candidates"
        )
    fixed = fixed_overrides(config, overrides)
    node = OmegaConf.to_container(config.search, resolve=True)
    assert isinstance(node, dict)
    check_targets("search", node)
    validate_node("search", {str(key): value for key, value in node.items()})
    settings: BudgetConfig = instantiate(config.search, _convert_="all")
    if not any(override.lstrip("+").startswith("trainer.patience=") for override in fixed):
        fixed.append("trainer.patience=null")  # halving decides who is trained on
    compose = composer(fixed, control=None)
    base = compose()
    validate_config(base)
    from distill.core.third_party_logging import silence_third_party_logging

    silence_third_party_logging()
    from distill.search.candidates import Candidates

    with record.locked(folder):
        search = record.describe_search(base, config.search, {})
        if not record.has_record(folder, search):
            record.write_record(folder, search)
        candidates = Candidates(folder, settings, compose)
        if not candidates.measured:
            candidates.measure(base)
        ended = halve(candidates, settings)
        standings = [one.standing(candidates.higher_is_better) for one in candidates.trained]
        chosen = candidates[ranked(standings, candidates.enough)[0].name]
        log.info("chosen: %s; it is trained to its end and tested", chosen.name)
        candidates.finish(chosen)
        report = budget_report.summarize(candidates, settings, chosen, ended, fixed, command)
        budget_report.write(folder, report)
    text = budget_report.terminal(report)
    if not report.reached:
        raise UnmetGoal(text)
    return text


def halve(candidates: "Candidates", settings: BudgetConfig) -> str:
    """Train candidates by successive halving until the finalists are left or the time is used up.

    Returns:
        Why it ended, in words.

    Raises:
        UserError: Every candidate failed.
    """
    pool = sorted(candidates.eligible, key=lambda one: -(one.speedup or 0))
    direction = candidates.higher_is_better
    rungs = number_of_rungs(len(pool), settings.reduction, settings.finalists)
    for number in range(rungs):
        for candidate in pool:
            epochs = rung_epochs(candidate.max_epochs, rungs, settings.reduction)[number]
            if len(candidate.curve) < epochs:
                if not _fits(candidates, candidate, epochs, settings.minutes):
                    return f"{settings.minutes:g} minutes would not have been enough for more"
                log.info("round %d of %d: %s", number + 1, rungs, candidate.name)
                candidates.train(candidate, epochs)
        pool = [candidate for candidate in pool if candidate.state != "failed"]
        if not pool:
            raise UserError(f"every candidate failed, see error.txt in {candidates.folder}/*")
        if number < rungs - 1:
            limits = {
                one.name: rung_epochs(one.max_epochs, rungs, settings.reduction)[number]
                for one in pool
            }
            kept = survivors(
                [one.standing(direction, limits[one.name]) for one in pool],
                settings.reduction, settings.finalists, candidates.enough,
            )  # fmt: skip
            names = {standing.name for standing in kept}
            for candidate in pool:
                candidate.state = "waiting" if candidate.name in names else "stopped"
            pool = [candidate for candidate in pool if candidate.name in names]
            log.info("round %d of %d: %s go on", number + 1, rungs, ", ".join(names))
    for candidate in pool:
        candidate.state = "finalist"
    candidates.save()
    return "the finalists were trained to the end"


def _fits(candidates: "Candidates", candidate: "Candidate", epochs: int, minutes: float) -> bool:
    """Return whether a piece of training, and finishing the best candidate after it, fit the time.

    The first candidate is always trained.
    """
    known = [one.seconds_per_epoch for one in candidates.all if one.seconds_per_epoch]
    if not known:
        return True
    own = candidate.seconds_per_epoch or max(known)
    piece = own * (epochs - len(candidate.curve))
    standings = [one.standing(candidates.higher_is_better) for one in candidates.trained]
    best = candidates[ranked(standings, candidates.enough)[0].name]
    # The control trains for as long as the student.
    left = 2 * best.max_epochs - len(best.curve)
    finish = (best.seconds_per_epoch or max(known)) * left + SECONDS_OF_REPORT
    return candidates.seconds + piece + finish <= 60 * minutes
