"""The report of a search, from summaries made by hand."""

import pytest

from distill.reporting.schema import Difference, MetricValue
from distill.search.report import FinalResult, SearchSummary, TrialSummary, markdown, terminal


def gain(value, p_value, seeds):
    return Difference(value, value - 0.01, value + 0.01, p_value, seeds=seeds)


def summary(gains, metric="accuracy"):
    trials = [
        TrialSummary(
            number=number,
            folder=f"{number:02d}-trial",
            overrides=[],
            state="finished",
            quality=0.8,
            costs={"parameters": 1000.0 + number},
            seconds=9.0,
            on_front=True,
            hypervolume=0.5,
            test=FinalResult(MetricValue(0.81, 0.79, 0.83), one),
        )
        for number, one in enumerate(gains)
    ]
    return SearchSummary(
        "distill-search", metric, ["parameters"], {}, 9.0, [*range(len(gains))], trials
    )


def texts(*args, **kwargs):
    found = summary(*args, **kwargs)
    return markdown("found", found), terminal(found)


def test_gains_of_one_seed_compare_two_models():
    for text in texts([gain(0.03, 0.001, 1), gain(0.02, 0.01, None), None]):
        assert "2 comparisons with a control are of one seed each: of two models, which" in text
        assert "Holm-corrected over 2 comparisons." in text
        assert "+3.0 [+2.0, +4.0], p = 0.002" in text
    for text in texts([gain(0.03, 0.001, 1), gain(0.02, 0.01, 5)]):
        assert "1 comparison with a control is of one seed each" in text


def test_gains_of_several_seeds_stand_alone():
    for text in texts([gain(0.03, 0.001, 5)]):
        assert "Holm-corrected over 1 comparison." in text
        assert "one seed" not in text


def test_nothing_is_said_of_gains_that_were_not_measured():
    for text in texts([None, None]):
        assert "control" not in text


@pytest.mark.parametrize(
    ("metric", "head"),
    [("accuracy", "gain over control, points"), ("perplexity", "gain over control")],
)
def test_unit_of_the_gains(metric, head):
    for text in texts([gain(0.03, 0.001, 1)], metric=metric):
        assert head in text
        assert ("points" in text) == ("points" in head)
