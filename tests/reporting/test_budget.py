import pytest

from distill.core.errors import UserError
from distill.reporting.budget import answer, parse_limit
from distill.reporting.compare import compare
from distill.reporting.gather import gather
from tests.reporting.example_reports import report, sweep, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return compare(*gather([sweep(tmp_path_factory.mktemp("runs") / "sweep")]))


def ask(comparison, at_most=(), at_least=()):
    limits = [parse_limit(text, True) for text in at_most]
    return answer(comparison, [*limits, *(parse_limit(text, False) for text in at_least)])


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("latency_ms=5", "latency_ms", 5.0),
        ("parameters=10M", "parameters", 10e6),
        ("bytes=1.5G", "bytes", 1.5e9),
        ("retention=98%", "retention", 0.98),
        (" macro_f1 = .5 ", "macro_f1", 0.5),
        ("bytes=1e6", "bytes", 1e6),
        ("gain=-1", "gain", -1.0),
    ],
)
def test_limits(text, name, value):
    limit = parse_limit(text, True)
    assert (limit.name, limit.value) == (name, pytest.approx(value))


@pytest.mark.parametrize("text", ["latency_ms", "latency_ms=", "=5", "a=5ms", "a=nan", "a=1.2.3"])
def test_what_is_no_limit(text):
    with pytest.raises(UserError, match="is not NAME=NUMBER"):
        parse_limit(text, True)


def test_best_quality_within_a_cost(comparison):
    found = ask(comparison, at_most=["latency_ms=4"])
    assert found.within
    assert found.row.title == "third-t4"
    assert found.text.startswith("4 models have latency at most 4 ms. Best accuracy: third-t4 (")
    assert "sweep/third-t4-seed1 and 2 more)" in found.text


def test_cheapest_where_the_quality_is_bounded(comparison):
    found = ask(comparison, at_most=["latency_ms=6"], at_least=["accuracy=0.85"])
    assert found.row.title == "third-t4"
    assert "Fewest parameters: third-t4" in found.text


def test_says_when_the_interval_reaches_past_the_limit(comparison):
    close = ask(comparison, at_least=["accuracy=0.8605"])
    assert close.row.title == "third-t4"
    assert "reaches past 0.8605: with another seed it may miss the limit" in close.text
    assert "reaches past" not in ask(comparison, at_least=["accuracy=0.85"]).text


def test_the_nearest_and_what_it_lacks(comparison):
    found = ask(comparison, at_most=["latency_ms=4"], at_least=["accuracy=0.90"])
    assert not found.within
    assert found.row.title == "third-t4"
    assert found.text.startswith("No model has latency at most 4 ms and accuracy at least 0.9.")
    assert "its accuracy 0.861 [0.859, 0.863] is 0.039 too little." in found.text
    slow = ask(comparison, at_most=["latency_ms=1"])
    assert "its latency 2 ms is 1 ms too much" in slow.text


TOLD = "Chosen on the test examples themselves: "


def test_says_that_the_best_was_chosen_on_the_test_examples(comparison):
    costs = ask(comparison, at_most=["latency_ms=4"]).text
    assert f"{TOLD}the best of 4 looks a little better there than it is" in costs
    # A limit on a score has chosen among all six, though only two are within.
    scores = ask(comparison, at_least=["accuracy=0.865"]).text
    assert f"{TOLD}the best of 6 looks a little better there" in scores
    retained = ask(comparison, at_most=["latency_ms=9"], at_least=["retention=98%"]).text
    assert f"{TOLD}the best of 6 " in retained


def test_says_that_the_nearest_was_chosen_on_the_test_examples(comparison):
    for limit in ("accuracy=0.90", "retention=120%", "agreement=0.99"):
        nearest = ask(comparison, at_least=[limit])
        assert not nearest.within
        assert f"{TOLD}the nearest of 6 looks a little nearer to what was asked" in nearest.text
    for costs in ({"at_most": ["latency_ms=1"]}, {"at_least": ["speedup=100"]}):
        nearest = ask(comparison, **costs)
        assert not nearest.within
        assert TOLD not in nearest.text  # no score had a part in it


def test_a_single_candidate_was_not_chosen(tmp_path):
    write_run(tmp_path / "run", report("half"))
    alone = compare(*gather([tmp_path]))
    for limit in ("accuracy=0.80", "accuracy=0.99"):
        assert TOLD not in ask(alone, at_least=[limit]).text


def test_unknown_measure(comparison):
    with pytest.raises(UserError, match="peak_memory_bytes was not measured: choose from param"):
        ask(comparison, at_most=["peak_memory_bytes=1"])


def test_teacher_and_control_are_not_answers(comparison):
    assert not ask(comparison, at_least=["accuracy=0.88"]).within


def test_what_was_not_measured_is_not_judged(tmp_path):
    content = report("blind", overrides=["x=1"])
    content["models"][1]["speed"] = None
    write_run(tmp_path / "blind", content)
    write_run(tmp_path / "half", report("half"))
    found = ask(compare(*gather([tmp_path])), at_most=["latency_ms=9"])
    assert found.row.title == "half"
    assert "Not judged, for want of a measurement: 1." in found.text
