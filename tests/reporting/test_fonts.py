"""Figures with names in any script; warnings are errors, a box is one."""

import pytest
from matplotlib.text import Text

from distill.reporting import fonts
from distill.reporting.figure import Point, draw_front, draw_tradeoff, save_figure
from tests.reporting.example_reports import typed_report

NAMES = ["뉴스 요약", "中文", "ひらがな", "Ωмир", "a$b$c_{2}", "two\nlines\x1b[31m", "\U0001f600"]


@pytest.fixture(params=["as installed", "no fallback"])
def machine(request, monkeypatch):
    if request.param == "no fallback":
        monkeypatch.setattr(fonts, "FALLBACKS", ())
        fonts._character_sets.cache_clear()
    yield request.param
    monkeypatch.undo()
    fonts._character_sets.cache_clear()


def texts(figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text)]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_front_with_names_in_any_script_is_drawn_without_a_warning(machine, kind, tmp_path):
    points = [
        Point(10.0 * (i + 1), 0.5 + i / 20, None, None, "student", name)
        for i, name in enumerate(NAMES)
    ]
    figure = draw_front(points, [], "parameters", "accuracy", "한국어 시험")
    save_figure(figure, tmp_path / f"front.{kind}", kind)
    written = texts(figure)
    if machine == "no fallback":
        assert "nyuseu yoyag" in written
        assert "hangugeo siheom" in written
        assert "U+4E2DU+6587" in written
        assert "hiragana" in written
    assert "Ωмир" in written
    assert "a$b$c_{2}" in written
    assert "two lines\ufffd[31m" in written


def test_a_run_with_a_korean_name_is_drawn_without_a_warning(machine, tmp_path):
    from dataclasses import replace

    report = typed_report()
    report = replace(report, run=replace(report.run, name="뉴스 $5"))
    save_figure(draw_tradeoff(report), tmp_path / "tradeoff.png")


def test_characters_that_are_known_stay():
    assert fonts.transliterate("한 a", frozenset(map(ord, "한 a"))) == "한 a"
    assert fonts.transliterate("한 a", frozenset(map(ord, " a"))) == "han a"
    assert fonts.transliterate("\U0001f600", frozenset()) == "U+1F600"
