"""A search with a budget: halving as mathematics, and the real command on tiny models."""

import json
from pathlib import Path

import pytest

import distill.cli.search
from distill.core.errors import UserError
from distill.search.budget import BudgetConfig
from distill.search.halving import (
    Standing,
    front,
    number_of_rungs,
    ranked,
    rung_epochs,
    survivors,
)

CANDIDATES = (
    "search.only=[static,half,single]",
    "search.candidates.static=['student=static','optimizer.learning_rate=1e-2']",
)


@pytest.fixture
def search(command, small, monkeypatch):
    """``distill-search`` with three candidates on tiny models: (exit code, stdout, stderr)."""

    def run(*overrides: str) -> tuple[int, str, str]:
        given = [o for o in small if not o.startswith(("student=", "trainer.max_epochs"))]
        with monkeypatch.context() as patch:
            patch.setattr("distill.cli.distill.main", distill.cli.search.main)
            return command(
                *given, "output_dir=found", "trainer.max_epochs=3", "search.finalists=1",
                *CANDIDATES, *overrides,
            )  # fmt: skip

    return run


# Halving


@pytest.mark.parametrize("candidates", [1, 2, 3, 4, 9, 10, 39])
@pytest.mark.parametrize(("reduction", "finalists"), [(2, 1), (3, 1), (3, 2), (5, 4)])
def test_halving_ends_with_the_finalists(candidates, reduction, finalists):
    rungs = number_of_rungs(candidates, reduction, finalists)
    pool = [Standing(str(i), i, 1.0) for i in range(candidates)]
    for _ in range(rungs - 1):
        smaller = survivors(pool, reduction, finalists)
        assert len(smaller) < len(pool)
        pool = smaller
    assert len(pool) == min(candidates, finalists)
    # The best ones, whatever was between.
    best = sorted(range(candidates), reverse=True)[: len(pool)]
    assert sorted((s.quality for s in pool), reverse=True) == best
    for max_epochs in (1, 3, 10, 100):
        epochs = rung_epochs(max_epochs, rungs, reduction)
        assert epochs == sorted(epochs) and epochs[0] >= 1 and epochs[-1] == max_epochs


def test_with_enough_quality_the_cheaper_one_is_better():
    good, better, weak = (
        Standing("good", 0.90, 1),
        Standing("better", 0.95, 2),
        Standing("w", 0.8, 0),
    )
    assert ranked([weak, good, better]) == [better, good, weak]
    assert ranked([weak, good, better], enough=0.9) == [good, better, weak]
    assert ranked([weak, good, better], enough=0.99) == [better, good, weak]
    assert ranked([weak, good, better], enough=0.1) == [weak, good, better]


def test_front_has_no_member_that_another_beats():
    points = [Standing(str(i), q, c) for i, (q, c) in enumerate([(1, 1), (2, 2), (1, 2), (2, 3)])]
    assert front(points) == points[:2]
    assert front([Standing("a", 1, 1), Standing("b", 2, 1)]) == [Standing("b", 2, 1)]


# Settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"minutes": 0}, "budget.minutes=0: it must be a number above 0"),
        ({"speedup": -1}, "budget.speedup=-1"),
        ({"at_least": 97}, "a fraction of the teacher's metric"),
        ({"reduction": 1}, "budget.reduction=1"),
        ({"finalists": 0}, "budget.finalists=0"),
        ({"candidates": {}}, "there is none"),
        ({"candidates": {"a": "student=half"}}, "give a list of overrides"),
        ({"only": ["third"]}, "there is no candidate third, but half"),
        *(
            ({"candidates": {name: ["student=half"]}}, "cannot be the name of a candidate")
            for name in (
                "a/b",
                "..",
                ".a",
                "a..b",
                "a.",
                "-a",
                "",
                " a",
                "a b",
                "a\n",
                "a\x1b[2J",
                "a\u202eb",
                "a" * 81,
                "teacher",
                "search.json",
                "sweep.md",
            )
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        BudgetConfig(**{"candidates": {"half": ["student=half"]}, **settings})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["budget.minute=3"], "minute"),
        (["budget=15"], "name the limit"),
        (["budget.minutes=1", "student=half,third"], "candidates, not a space"),
        (["budget.minutes=soon"], "minutes"),
    ],
)
def test_mistakes_are_one_line(search, overrides, says):
    code, _, error = search(*overrides)
    assert code == 2
    assert len(error.strip().splitlines()) == 1 and says in error
    assert not Path("found").exists()


# The command


@pytest.mark.slow
def test_finds_a_student_and_tests_it_alone(search):
    code, out, error = search("budget.minutes=30", "budget.at_least=0.5", "control=false")
    assert code == 0, error
    report = json.loads(Path("found/search.json").read_text())
    assert set(report) >= {"chosen", "reason", "repeat", "conclusion", "candidates"}
    lines = {line["name"]: line for line in report["candidates"]}
    assert set(lines) == {"static", "half", "single"}
    # Only the chosen one saw the test split; the others were interrupted after an epoch or more.
    tested = {folder.parent.name for folder in Path("found").glob("*/report.json")}
    assert tested == {report["chosen"]}
    assert all(line["epochs"] >= 1 for line in lines.values())
    assert lines[report["chosen"]]["epochs"] == 3
    assert any(line["epochs"] < 3 for line in lines.values())
    for other in lines.keys() - tested:
        assert Path(f"found/{other}/stopped.txt").read_text().startswith("compared after epoch")
    enough = [line for line in lines.values() if line["share"] >= 0.5]
    fastest = max(enough, key=lambda line: line["speedup"])
    assert report["chosen"] == fastest["name"]
    assert f"chosen: {fastest['name']}" in out and report["repeat"] in out
    assert Path("found/search.md").exists() and Path("found/front.png").exists()
    # The same command is finished at once, with the same answer.
    again = search("budget.minutes=30", "budget.at_least=0.5", "control=false")
    assert again[0] == 0 and f"chosen: {fastest['name']}" in again[1]


@pytest.mark.slow
def test_a_goal_that_nobody_reaches_is_said_and_ends_with_1(search):
    code, out, _ = search("budget.at_least=1.9", "control=false")
    assert code == 1
    assert "no candidate keeps 190 %" in out
    assert not json.loads(Path("found/search.json").read_text())["reached"]


def test_limits_that_no_candidate_meets_end_before_training(search):
    code, _, error = search("budget.speedup=100000")
    assert code == 2
    assert "no candidate is within the limits; the fastest" in error
    assert not list(Path("found").glob("*/checkpoints"))
