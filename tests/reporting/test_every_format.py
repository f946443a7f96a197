"""What every registered format does; a new one is tested by being there."""

import json
from pathlib import Path

import pytest

from distill.reporting.budget import answer, parse_limit
from distill.reporting.compare import RunComparison, compare
from distill.reporting.format_names import SUFFIXES
from distill.reporting.formats import (
    FORMATS,
    TextFormat,
    format_of,
    load_plugins,
    register_format,
    render,
    save,
)
from distill.reporting.formats.base import _REGISTRY
from distill.reporting.gather import gather
from tests.reporting.example_reports import report, sweep, write_run

load_plugins()
every_format = pytest.mark.parametrize("chosen", FORMATS.values(), ids=list(FORMATS))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    root = sweep(tmp_path_factory.mktemp("runs") / "sweep", students=("half", "third"))
    write_run(root / "dead", None, error="error: <none> of it")
    result = compare(*gather([root]))
    result.answer = answer(result, [parse_limit("latency_ms=4", True)])
    return result


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Hardly anything was measured, and nothing can be compared."""
    content = report()
    content["models"] = [
        {**dict.fromkeys(content["models"][1]), "role": "student", "name": "half"},
    ]
    content["comparison"] = content["environment"] = content["timing"] = None
    content["data"] = {"name": "docstrings"}
    root = tmp_path_factory.mktemp("sparse")
    write_run(root / "run", content)
    return compare(*gather([root]))


@every_format
def test_name_and_suffix(chosen):
    assert FORMATS[chosen.name] is chosen
    assert chosen.suffix.startswith(".")
    assert format_of(Path(f"out{chosen.suffix.upper()}")) is chosen
    assert type(chosen).__doc__


@every_format
@pytest.mark.parametrize("content", ["comparison", "sparse"])
def test_writes_the_same_file_again(chosen, content, request, tmp_path):
    shown = request.getfixturevalue(content)
    first, second = (tmp_path / f"{name}{chosen.suffix}" for name in "ab")
    save(shown, first)
    chosen.save(shown, second)
    assert first.stat().st_size
    if chosen.suffix != ".svg":  # matplotlib draws the names of its clip paths
        assert first.read_bytes() == second.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # no temporary files


@every_format
def test_text_shows_every_candidate(chosen, comparison):
    if not isinstance(chosen, TextFormat):
        return
    text = chosen.render(comparison)
    assert text == render(comparison, chosen.name)
    for row in comparison.candidates:
        assert row.name in text
    assert "dead" in text
    for absent in ("NaN", "nan,", "None"):
        assert absent not in text


def test_formats_of_the_package():
    own = [chosen for chosen in FORMATS.values() if type(chosen).__module__.startswith("distill.")]
    assert {chosen.name: chosen.suffix for chosen in own} == SUFFIXES


@pytest.fixture
def registry():
    before = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


def test_a_format_from_elsewhere(registry, comparison, tmp_path, capsys):
    @register_format
    class Names(TextFormat):
        """The names of the models."""

        name = "names"
        suffix = ".names"

        def render(self, comparison: RunComparison, width: int | None = None) -> str:
            return json.dumps([row.title for row in comparison.rows])

    save(comparison, tmp_path / "out.names")
    assert "half-t4" in json.loads((tmp_path / "out.names").read_text())

    from distill.cli.report import main

    write_run(tmp_path / "run", report("run"))
    assert main([str(tmp_path / "run"), "--format", "names"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == "run"

    with pytest.raises(ValueError, match="names"):
        register_format(Names)
