"""The command ``distill-search``: finds the front of quality against cost.

Options that have several values on the command line never reach Hydra, which would ask for ``-m``;
together with ``search.space`` they are what is searched.

A command, and not a sweeper behind ``distill -m``: a sweeper sees a job's return value only, while
a trial has to be stopped in the middle, continued after an interrupt and recorded when it fails; a
sweep cannot be continued at all; and what ``-m`` means (every combination) stays one thing.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from distill.cli.shell import HydraCommand
from distill.core.errors import UserError

if TYPE_CHECKING:
    from distill.search.space import Space


# The configuration of a search that chooses its candidates itself.
BUDGET_TARGET = "distill.search.budget.BudgetConfig"


class SearchCommand(HydraCommand):
    """Searches the options that have several values."""

    def __init__(self) -> None:
        super().__init__()
        self._command = shlex.join(["distill-search", *sys.argv[1:]])
        self._typed: Space = {}

    def after_interrupt(self) -> str:
        """Return how to go on: a search is found by its folder."""
        return "the same command continues the search"

    def hydra_arguments(self, given: list[str]) -> list[str]:
        """Take out the options that have several values, and add what makes it a search."""
        self._typed, arguments = _split_arguments(given)
        return arguments

    def run(self, config: DictConfig, overrides: list[str], folder: Path) -> str:
        """Search, or leave nothing behind where a mistake was found before anything was run."""
        from distill.search.record import remove_if_untouched

        if config.search.get("_target_") == BUDGET_TARGET:
            from distill.search.budget_run import run_budget_search as search
        else:
            from distill.search.run import run_search as search
        try:
            return search(config, overrides, self._typed, folder, self._command)
        except Exception:
            remove_if_untouched(folder)
            raise


def main() -> None:
    """Entry point of the command."""
    sys.exit(SearchCommand().execute(sys.argv[1:]))


def _split_arguments(given: list[str]) -> "tuple[Space, list[str]]":
    """Return what is searched, and the command line for Hydra."""
    if {"-m", "--multirun"} & set(given):
        raise UserError("distill-search makes many runs by itself: leave out -m")
    try:
        from distill.search.space import split_overrides
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "optuna":
            raise
        raise UserError("distill-search needs Optuna: pip install 'distill[search]'") from error
    typed, others = split_overrides(given)
    for argument in given:
        if argument.lstrip("+~").startswith("search.space"):
            option = argument.split("=")[0].partition("search.space.")[2] or "student"
            raise UserError(
                f"{argument}: give the option itself several values, {option}=A,B or "
                f"'{option}=interval(LOW,HIGH)'"
            )
    others, has_budget = _expand_budget(others)
    if not any(argument.startswith("search=") for argument in others):
        others.append("search=budget" if has_budget else "search=default")
    # Overrides in one piece: argparse takes none on both sides of a flag.
    overrides = [a for a in others if not a.startswith("-") and ("=" in a or a.startswith("~"))]
    return typed, [
        "hydra/help=search",
        "hydra.run.dir='${search_dir:${output_dir},${data.name}}'",
        *(f"+{o}" if o.startswith("search=") else o for o in overrides),
        *(argument for argument in others if argument not in overrides),
    ]


def _expand_budget(arguments: list[str]) -> tuple[list[str], bool]:
    """Write ``budget.NAME=VALUE`` as ``search.NAME=VALUE``; return whether there was one."""
    expanded = []
    for argument in arguments:
        if argument == "budget" or argument.startswith("budget="):
            raise UserError(f"{argument}: name the limit, budget.minutes=15 or budget.speedup=20")
        name, found, rest = argument.partition("budget.")
        expanded.append(f"search.{rest}" if found and not name else argument)
    return expanded, expanded != arguments


if __name__ == "__main__":
    main()
