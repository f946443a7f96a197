"""The budget of a search that picks its candidates itself: ``distill-search budget.minutes=15``."""

import re
from dataclasses import dataclass, field

from distill.core.errors import UserError
from distill.reporting.text import percent

# Names of candidates are names of folders beside the files of the search.
FOLDER_NAME = re.compile(r"(?!.{81})\w[\w-]*(\.[\w-]+)*")
RESERVED_NAMES = frozenset(
    {"teacher", "search.json", "search.md", "candidates.json", "front.png"}
    | {f"sweep{suffix}" for suffix in (".md", ".csv", ".json", ".html", ".png")}
)


@dataclass(kw_only=True)
class BudgetConfig:
    """Goals, time and candidates of a search with a budget.

    Attributes:
        minutes: Wall time over all calls, the final run of the chosen student included. A piece of
            training is started only where what is known of the candidates says that it fits.
        speedup: How many times less processor time than the teacher a student takes for one text
            (a GPU: latency); slower candidates are left out before any training. ``None``: any.
        latency_ms: Milliseconds that a student takes for one text at most; ``None``: any.
        at_least: Fraction of the teacher's metric on validation that is enough: the fastest student
            that keeps so much is chosen. ``None``: the best student within the limits.
        candidates: Overrides of each candidate by its name.
        only: Names of the candidates that take part; ``None``: all.
        reduction: One of so many candidates survives a rung.
        finalists: Number of candidates that are trained to the end.
    """

    minutes: float = 15
    speedup: float | None = None
    latency_ms: float | None = None
    at_least: float | None = None
    candidates: dict[str, list[str]] = field(default_factory=dict)
    only: list[str] | None = None
    reduction: int = 3
    finalists: int = 2

    def __post_init__(self) -> None:
        for name in ("minutes", "speedup", "latency_ms", "at_least"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise UserError(f"budget.{name}={value}: it must be a number above 0")
        if self.at_least is not None and self.at_least > 2:
            raise UserError(
                f"budget.at_least={self.at_least}: it is a fraction of the teacher's metric, 0.97"
            )
        if self.reduction < 2:
            raise UserError(f"budget.reduction={self.reduction}: it must be 2 or more")
        if self.finalists < 1:
            raise UserError(f"budget.finalists={self.finalists}: it must be 1 or more")
        for name in self.only or ():
            if name not in self.candidates:
                raise UserError(
                    f"budget.only: there is no candidate {name}, but {', '.join(self.candidates)}"
                )
        if self.only is not None:
            self.candidates = {name: self.candidates[name] for name in dict.fromkeys(self.only)}
        if not self.candidates:
            raise UserError("budget.candidates: there is none")
        for name, overrides in self.candidates.items():
            if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
                raise UserError(
                    f"budget.candidates.{name}: give a list of overrides, [student=half]"
                )
            if not FOLDER_NAME.fullmatch(name) or name in RESERVED_NAMES:
                raise UserError(
                    f"budget.candidates: {name[:80]!r} cannot be the name of a candidate: letters, "
                    "digits, -, _ and single dots, at most 80, and not the name of a file of the "
                    "search"
                )

    def describe(self) -> str:
        """Return the question that the search answers, in words."""
        limits = []
        if self.speedup is not None:
            limits.append(f"at least {self.speedup:g} times less processor time than the teacher")
        if self.latency_ms is not None:
            limits.append(f"at most {self.latency_ms:g} ms for one text")
        if self.at_least is not None:
            kept = percent(self.at_least)
            goal = f"the fastest student with at least {kept} of the teacher's metric"
        else:
            goal = "the best student"
        return f"{goal}, {' and '.join(limits)}" if limits else goal

    def violates(self, speedup: float, latency_ms: float) -> str | None:
        """Return which limit a student breaks, in words; ``None``: none."""
        if self.speedup is not None and speedup < self.speedup:
            return f"{speedup:.3g} times faster, budget.speedup={self.speedup:g}"
        if self.latency_ms is not None and latency_ms > self.latency_ms:
            return f"{latency_ms:.3g} ms for one text, budget.latency_ms={self.latency_ms:g}"
        return None
